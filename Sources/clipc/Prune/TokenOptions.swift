import ArgumentParser
import GraphIR
import Passes

/// How many tokens the image tower computes with.
struct TokenOptions: ParsableArguments {
  @Option(help: "Tokens of the image tower that are merged with others in each block.")
  var mergeTokens: Int?
  @Option(help: "How merged tokens spread over the blocks: constant or linear.")
  var mergeSchedule: MergeTokens.Schedule = .constant
  @Option(
    help: ArgumentHelp(
      """
      Blocks, from 1, behind whose attention tokens go, with the share that stays, such as \
      4=0.7,8=0.5.
      """, valueName: "stages"))
  var dropTokens: String?

  /// Whether tokens go at all.
  var isGiven: Bool { mergeTokens != nil || dropTokens != nil }

  /// The passes that take tokens out.
  func passes() throws -> [any Pass] {
    var passes: [any Pass] = []
    if let dropTokens {
      var options = DropTokens.Options()
      options.stages = try stages(dropTokens)
      passes.append(DropTokens(options: options))
    }
    if let mergeTokens {
      var options = MergeTokens.Options()
      options.tokensPerLayer = mergeTokens
      options.schedule = mergeSchedule
      passes.append(MergeTokens(options: options))
    }
    return passes
  }

  private func stages(_ text: String) throws -> [DropTokens.Stage] {
    try text.split(separator: ",", omittingEmptySubsequences: false).map { part in
      let pieces = part.split(separator: "=", omittingEmptySubsequences: false).map(String.init)
      guard pieces.count == 2, let layer = Int(pieces[0]), let keep = Double(pieces[1]) else {
        throw Failure(
          .usage, "--drop-tokens must list BLOCK=SHARE, such as 4=0.7,8=0.5, found \(part)")
      }
      return DropTokens.Stage(layer: layer, keep: keep)
    }
  }
}

extension MergeTokens.Schedule: ExpressibleByArgument {}
