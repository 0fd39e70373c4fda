import TensorCore

/// Inputs for one run of a graph, by the graph's input names.
package struct Batch: Sendable {
  /// The tensors.
  package var inputs: [String: Tensor]

  /// Holds `inputs`.
  package init(inputs: [String: Tensor]) { self.inputs = inputs }
}

/// Calibration or training inputs, as many as there are, never all in memory.
package protocol BatchSource {
  /// Calls `body` with each batch in order; the same batches at every call.
  func forEachBatch(_ body: (Batch) throws -> Void) throws
}

/// Something a pass measured and wants the user to see.
package enum PassEvent: Sendable {
  /// A line of a report.
  case note(String)
  /// Something that the user should know before trusting the result.
  case warning(String)
  /// Figures, for a program to read.
  case result(any Encodable & Sendable)
  /// Progress of the current stage.
  case progress(stage: String, done: Int, total: Int)
}

/// What surrounds a pass: nothing it uses is global.
package struct PassContext {
  /// The seed for every choice by chance.
  package let seed: UInt64
  /// How many threads may run.
  package let threadCount: Int
  /// Calibration inputs, where the user gave data.
  package let calibration: (any BatchSource)?
  /// Reads the images and texts of the user's data that belong together; nil without data.
  package let pairs: (() throws -> PairSet)?
  /// What an interrupted run of the same work left, where it can be kept.
  package let records: (any WorkRecords)?
  /// What earlier runs found out about the model and the data, where it can be kept.
  package let statistics: (any TensorRecords)?
  /// Where events go.
  package let report: (PassEvent) -> Void

  /// Surrounds a pass with the given things.
  package init(
    seed: UInt64 = 0, threadCount: Int = 1, calibration: (any BatchSource)? = nil,
    pairs: (() throws -> PairSet)? = nil, records: (any WorkRecords)? = nil,
    statistics: (any TensorRecords)? = nil,
    report: @escaping (PassEvent) -> Void = { _ in }
  ) {
    self.seed = seed
    self.threadCount = threadCount
    self.calibration = calibration
    self.pairs = pairs
    self.records = records
    self.statistics = statistics
    self.report = report
  }
}

/// A change of a graph into another.
package protocol Pass: Sendable {
  /// The user's choices; the memberwise defaults are those of the command line.
  associatedtype Options: Codable & Sendable

  /// The name in provenance and reports, a verb, with an object where one is needed, such as `merge-tokens`.
  static var name: String { get }

  /// The choices this pass was made with.
  var options: Options { get }

  /// Makes the pass for `options`.
  init(options: Options)

  /// Returns the changed graph.
  func run(on graph: consuming Graph, in context: borrowing PassContext) throws(PassError) -> Graph
}

/// Why a pass could not do its work.
package enum PassError: Error {
  /// An option's value cannot be met.
  case option(name: String, expected: String, found: String)
  /// The pass needs calibration data and got none.
  case needsData(pass: String)
  /// The graph lacks what the pass works on.
  case unsuitable(pass: String, String)
  /// A tensor holds something the pass cannot use.
  case parameter(name: String, String)
  /// The graph before or after the pass breaks an invariant.
  case graph(pass: String, GraphError)
  /// Reading or running the calibration data failed.
  case calibration(any Error)
}

extension PassError: CustomStringConvertible {
  package var description: String {
    switch self {
    case .option(let name, let expected, let found):
      "\(name) must be \(expected), found \(found)"
    case .needsData(let pass): "\(pass) needs calibration data (--data)"
    case .unsuitable(let pass, let what): "\(pass): \(what)"
    case .parameter(let name, let what): "parameter \(name) \(what)"
    case .graph(let pass, let error): "\(pass): \(error)"
    case .calibration(let error): "calibration: \(error)"
    }
  }
}
