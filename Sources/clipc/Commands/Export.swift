import ArgumentParser
import Checkpoints
import Export
import GraphIR
import ModelFormat
import Passes

/// `clipc export`: writes the runtime file of a model.
struct ExportCommand: Command {
  static let configuration = CommandConfiguration(
    commandName: "export",
    abstract: "Write the compact file that the interpreter runs.",
    discussion: """
      The file holds both towers, or one, with tokenizer and image preprocessing, and is used in
      place: nothing is unpacked when it is opened. --compress zstd writes a container for shipping,
      which `clipc verify` reads and every other command unpacks into memory first. --labels puts the
      embeddings of classes into the file, so that it classifies by itself, without a text tower too.
      Dense weights lie in the file as every kernel reads them; pruned ones take fewer bytes and are
      made dense when the file is opened, unless --expand.
      """)

  /// How the file is packed.
  enum Compression: String, CaseIterable, ExpressibleByArgument {
    case none
    case zstd
  }

  @Argument(help: "A checkpoint folder or clipc model.") var model: String
  @Option(name: .shortAndLong, help: "The runtime file (.clipc).") var output: String
  @Option(help: "image, text or both.") var tower: TowerSelection = .both
  @Option(help: "none or zstd.") var compress: Compression = .none
  @Flag(help: "Store pruned weights dense: a larger file that is opened sooner.")
  var expand = false
  @OptionGroup var labels: LabelOptions
  @OptionGroup var common: CommonOptions

  func execute() throws {
    let (names, prompts) = (try labels.names(), try labels.prompts())
    let opened = try OpenedModel(path: model)
    let source = try opened.graphModel(for: "export")
    let baked = try names.map {
      try BakedLabels($0, templates: prompts, of: opened, source, threadCount: common.threads)
    }
    let towers: Set<ModelFormat.Tower> = Set(tower.towers.map { $0 == .image ? .image : .text })
    let file = try RuntimeFile(source, towers: towers, labels: baked, expands: expand)
    var byteCount = 0
    try FileReplacement.write(to: output) { sink in
      func counted(_ bytes: UnsafeRawBufferPointer) throws {
        byteCount += bytes.count
        try sink(bytes)
      }
      switch compress {
      case .none: try file.write(to: counted)
      case .zstd: try Container.packed(try file.serialized()).withUnsafeBytes(counted)
      }
    }
    if common.json {
      Terminal.print(
        JSON.object([
          ("output", .text(output)), ("file_bytes", .integer(byteCount)),
          ("tower", .text(tower.rawValue)), ("compression", .text(compress.rawValue)),
          ("labels", .integer(names?.count ?? 0)),
        ]).text)
    } else {
      let known = names.map { ", \($0.count) labels" } ?? ""
      Terminal.print("wrote \(printable(output)), \(byteCount) bytes\(known)")
    }
  }
}
