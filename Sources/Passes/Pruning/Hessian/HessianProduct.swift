import Execution
import GraphIR
import Operators
import TensorCore
import Training

/// Products of a loss's matrix of second derivatives with directions, exact but for rounding.
///
/// With the gradient `g` of the loss, `H v` is the gradient of `<g, v>` for a `v` that does not
/// move.
///
/// - Source: Pearlmutter, "Fast Exact Multiplication by the Hessian", Neural Computation 6, 1994.
package struct HessianProduct {
  /// What the loss is differentiated with respect to.
  package let parameters: [String]
  private let shapes: [[Int]]
  private let products: [String?]
  private let executor: Executor

  /// Prepares products for `parameters` of `graph`.
  ///
  /// - Parameters:
  ///   - loss: a scalar that `graph` computes.
  ///   - graph: a verified graph.
  ///   - parameters: what it is differentiated with respect to.
  ///   - threadCount: how many threads run.
  ///   - arithmetic: how operators are computed.
  /// - Throws: ``PassError`` when an operation has no gradient.
  package init(
    of loss: Value, in graph: Graph, withRespectTo parameters: [Value], threadCount: Int = 1,
    arithmetic: Arithmetic = .fast
  ) throws(PassError) {
    var names: [String?] = []
    var graph = graph
    do throws(GraphError) {
      let gradients = try graph.addGradients(of: loss, withRespectTo: parameters)
      var seeds: [(value: Value, gradient: Value)] = []
      for (parameter, gradient) in zip(parameters, gradients) {
        guard let gradient else { continue }
        let direction = try graph.addInput(
          Self.directionName(graph.name(of: parameter)), graph.tensorType(of: parameter))
        seeds.append((gradient, direction))
      }
      let made = try graph.addGradients(of: seeds, withRespectTo: parameters)
      names = made.map { value in value.map { graph.name(of: $0) } }
    } catch {
      throw .graph(pass: HessianImportance.passName, error)
    }
    self.parameters = parameters.map(graph.name(of:))
    shapes = parameters.map { graph.tensorType(of: $0).extents.map { $0.fixedCount ?? 0 } }
    products = names
    do throws(ExecutionError) {
      executor = try Executor(
        graph, outputs: Set(names.compactMap(\.self)).sorted(), threadCount: threadCount,
        arithmetic: arithmetic)
    } catch {
      throw .calibration(error)
    }
  }

  private static func directionName(_ parameter: String) -> String { "direction.\(parameter)" }

  /// Bytes of the block that holds the values of the last product.
  package var arenaByteCount: Int { executor.arenaByteCount }

  /// `H v` for the `directions` v, each of the shape of its parameter.
  ///
  /// - Parameters:
  ///   - directions: one for each parameter.
  ///   - inputs: the other inputs of the graph.
  /// - Returns: A tensor for each parameter, zeros where the loss does not depend on it.
  /// - Throws: ``PassError`` when an input is absent or of another type.
  package func callAsFunction(
    _ directions: [Tensor], _ inputs: [String: Tensor]
  ) throws(PassError) -> [Tensor] {
    precondition(directions.count == parameters.count)
    var inputs = inputs
    for (name, direction) in zip(parameters, directions) {
      inputs[Self.directionName(name)] = direction
    }
    let results: [String: Tensor]
    do throws(ExecutionError) { results = try executor.run(inputs) } catch {
      throw .calibration(error)
    }
    return zip(products, shapes).map { name, shape in
      if let product = name.flatMap({ results[$0] }) { return product }
      return Tensor(shape: shape, of: Float.self) { _ in }
    }
  }
}
