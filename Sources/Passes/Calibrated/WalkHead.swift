import Execution
import GraphIR
import Operators
import TensorCore

/// Brings batches from the inputs of the graph to a tower's first cut.
struct WalkHead {
  /// The inputs that the tower needs.
  let inputNames: Set<String>
  private let later: Set<String>
  private let executor: Executor?

  init(
    _ output: Value, start: Value?, of form: Graph, _ threadCount: Int, _ pass: String
  ) throws(PassError) {
    do {
      let whole = try form.segment(computing: [output], from: [])
      inputNames = Set(whole.inputs.map { whole.name(of: $0) })
      guard let start else {
        later = inputNames
        executor = nil
        return
      }
      let rest = try form.segment(computing: [output], from: [start])
      later = Set(rest.inputs.map { rest.name(of: $0) }).intersection(inputNames)
      executor = try Executor(
        try form.segment(computing: [start], from: []), threadCount: threadCount)
    } catch let error as GraphError {
      throw .graph(pass: pass, error)
    } catch {
      throw .calibration(error)
    }
  }

  func isFed(by batch: Batch) -> Bool { inputNames.allSatisfy { batch.inputs[$0] != nil } }

  func state(of batch: Batch) throws -> [String: Tensor] {
    let made = try executor?.run(batch.inputs) ?? [:]
    return batch.inputs.filter { later.contains($0.key) }.merging(made) { $1 }
  }
}
