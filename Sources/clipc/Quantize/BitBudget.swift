import ArgumentParser
import Passes

/// How bits are shared between weights.
struct BitBudget: ParsableArguments {
  @Option(
    help: """
      Bytes of the runtime file: weights get the bits, of --bits, with which the model loses least.
      """)
  var targetBytes: Int?
  @Option(
    help: "Milliseconds that the interpreter takes on this machine for one image and one full text."
  )
  var targetMs: Double?
  @Option(
    help: """
      Points of accuracy that the model may lose on --data: weights get as few bits as that allows.
      """)
  var maxDrop: Double?
  @Option(
    help: """
      How bits are chosen under the budget: program, the least loss there is; or, for comparison, \
      greedy, by what a step saves for its bytes.
      """)
  var allocation = BitAllocation.Method.program
  @Option(help: "The bits that weights may get.") var bits = "2,3,4,5,6,8"
  @Option(
    help: """
      A file for what each weight loses at each number of bits: read where it is of this model and \
      these samples, added to as more is measured.
      """)
  var sensitivities: String?

  func validate() throws {
    guard [targetBytes != nil, targetMs != nil, maxDrop != nil].count(where: { $0 }) <= 1 else {
      throw ValidationError("one of --target-bytes, --target-ms and --max-drop at a time")
    }
    if let targetBytes, targetBytes <= 0 {
      throw ValidationError("--target-bytes must be positive, found \(targetBytes)")
    }
    for (name, number) in [("target-ms", targetMs), ("max-drop", maxDrop)] {
      if let number, !(number > 0 && number.isFinite) {
        throw ValidationError("--\(name) must be positive, found \(number)")
      }
    }
    guard isGiven || allocation == .program else {
      throw ValidationError(
        "--allocation \(allocation.rawValue) needs --target-bytes, --target-ms or --max-drop")
    }
    _ = try bitCounts()
  }

  /// Whether a budget is given.
  var isGiven: Bool { targetBytes != nil || targetMs != nil || maxDrop != nil }

  /// The bits that weights may get, ascending.
  func bitCounts() throws -> [Int] {
    let counts = bits.split(separator: ",", omittingEmptySubsequences: false).map { Int($0) }
    guard !counts.isEmpty, counts.allSatisfy({ $0.map((2...8).contains) ?? false }) else {
      throw ValidationError("--bits must list numbers of 2 to 8, found \(bits)")
    }
    return Set(counts.compactMap { $0 }).sorted()
  }
}

extension BitAllocation.Method: ExpressibleByArgument {}
