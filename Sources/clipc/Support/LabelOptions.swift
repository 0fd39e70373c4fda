import ArgumentParser
import Datasets

/// Classes and their prompts on the command line.
struct LabelOptions: ParsableArguments {
  @Option(help: "The labels, separated by commas, or @FILE with one a line.")
  var labels: String?
  @Option(help: "A file with a prompt a line, {} for the label.") var templates: String?

  /// The names of `--labels`, two at least; nil without it.
  func names() throws -> [String]? {
    guard let labels else {
      guard templates == nil else { throw Failure(.usage, "--templates goes with --labels") }
      return nil
    }
    let names: [String]
    if labels.hasPrefix("@") {
      names = try ClassNames.read(String(labels.dropFirst()))
    } else {
      do { names = try ClassNames.parse(list: labels, place: "--labels") } catch {
        throw Failure(.usage, error.description)
      }
    }
    guard names.count > 1 else {
      throw Failure(.usage, "--labels must list at least two labels, found \(names.count)")
    }
    return names
  }

  /// The prompts of `--templates`, or the one that stands for all.
  func prompts() throws -> Prompts { try templates.map { try Prompts(file: $0) } ?? .standard }
}
