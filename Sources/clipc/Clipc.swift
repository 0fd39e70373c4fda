import ArgumentParser
import Checkpoints
import ClipRuntime
import Glibc

/// The command line.
struct Clipc: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "clipc",
    abstract: "Compress CLIP checkpoints and run them where there is little room.",
    discussion: """
      MODEL is a Hugging Face folder (tf_model.h5), a KerasHub preset folder (model.weights.h5), a
      clipc model (.h5) or a runtime file (.clipc), told apart by content.
      Any command takes options from a file too: --recipe FILE, YAML with an option a line.
      """,
    version: "\(RuntimeVersion.text)",
    subcommands: [
      Inspect.self, Tokenize.self, Preprocess.self, Encode.self, Classify.self, Eval.self,
      PruneCommand.self, QuantizeCommand.self, MergeCommand.self, Distill.self, Reinforce.self,
      UpcycleCommand.self, ExportCommand.self, Bench.self, Verify.self,
    ])
}

@main
enum Main {
  static func main() {
    HDF5Worker.serveIfAsked()
    // A write beyond a limit or into a closed pipe is an error with a sentence, not an end.
    signal(SIGXFSZ, SIG_IGN)
    signal(SIGPIPE, SIG_IGN)
    Interruption.removeUnfinishedFile()
    do {
      let arguments = try Recipe.expanding(Array(CommandLine.arguments.dropFirst()))
      var command = try Clipc.parseAsRoot(arguments)
      try command.run()
    } catch let failure as Failure {
      Terminal.say("clipc: \(failure.description)")
      exit(failure.kind.rawValue)
    } catch {
      let code = Clipc.exitCode(for: error)
      guard code == .validationFailure, !(error is ExitCode) else { Clipc.exit(withError: error) }
      // One line, as every error: what is wrong, without the usage.
      let text = Clipc.message(for: error).split(separator: "\n").joined(separator: " ")
      Terminal.say("clipc: \(text)")
      Clipc.exit(withError: code)
    }
  }
}
