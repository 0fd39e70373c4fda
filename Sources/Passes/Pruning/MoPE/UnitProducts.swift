import GraphIR
import Operators
import TensorCore

/// Where the units of a group leave their branch: the product whose result they are summed in, and
/// the residual stream that it is added to.
struct UnitProduct: Sendable {
  /// The group.
  let group: DependencyGroup
  /// What is multiplied, `[..., units * unit]`, and what a mask of the group makes zero in parts.
  let factor: Value
  /// The weight, `[width, units * unit]`.
  let weight: Tensor
  /// The sum of stream and product: all that the rest of the tower takes from the branch.
  let stream: Value

  /// What `units` add to ``stream``, for the elements of ``factor``: `[rows, width]`.
  func contribution(of units: [Int], _ factor: Tensor, threadCount: Int) -> [Float] {
    let indices = group.indices(of: units)
    let extent = weight.shape[1]
    let rows = extent > 0 ? factor.count / extent : 0
    func columns(_ tensor: Tensor) -> [Float] {
      guard indices.count < extent else { return tensor.elements(of: Float.self) }
      return tensor.reshaped([extent > 0 ? tensor.count / extent : 0, extent])
        .selecting(indices, onAxis: 1).elements(of: Float.self)
    }
    return Matrix.productTransposed(
      m: rows, n: weight.shape[0], k: indices.count, columns(factor), columns(weight),
      threadCount: threadCount)
  }
}

extension Graph {
  /// The products in which the units of `groups` leave their branches.
  ///
  /// - Parameters:
  ///   - groups: groups of heads or neurons of `tower`.
  ///   - tower: the part of this graph that ``measurable(_:)`` makes.
  ///   - cuts: the values of `tower` through which everything passes.
  /// - Returns: A product for each group.
  /// - Throws: ``PassError`` where a group's units leave in another way.
  func unitProducts(
    of groups: [DependencyGroup], in tower: Graph, cuts: [Value]
  ) throws(PassError) -> [UnitProduct] {
    let consumers = consumers()
    let towerConsumers = tower.consumers()
    let cuts = Set(cuts)
    var products: [UnitProduct] = []
    for group in groups {
      guard
        let product = unitProduct(
          of: group, consumers, in: tower, towerConsumers, cuts)
      else {
        throw .unsuitable(
          pass: "mope",
          "the \(group.kind.rawValue) of \(group.name) do not leave by one product that is added "
            + "to the residual stream, so they cannot be measured one by one")
      }
      products.append(product)
    }
    return products
  }

  private func unitProduct(
    of group: DependencyGroup, _ consumers: [[Int]], in tower: Graph, _ towerConsumers: [[Int]],
    _ cuts: Set<Value>
  ) -> UnitProduct? {
    guard group.kind != .width else { return nil }
    let own = Set(group.values.keys)
    let leaving = Set(own.flatMap { consumers[Int($0.index)] }).filter { index in
      !nodes[index].outputs.contains(where: own.contains)
    }
    guard leaving.count == 1, let first = leaving.first, nodes[first].op is Linear else {
      return nil
    }
    let name = nodes[first].name
    guard let node = tower.nodes.first(where: { $0.name == name }), node.op is Linear,
      let weight = tower.parameter(node.inputs[1])?.tensor,
      group.members.contains(where: {
        self.name(of: $0.parameter) == tower.name(of: node.inputs[1]) && $0.axis == 1
      })
    else { return nil }
    let readers = towerConsumers[Int(node.outputs[0].index)]
    guard readers.count == 1, tower.nodes[readers[0]].op is Add,
      tower.output(named: tower.name(of: node.outputs[0])) == nil
    else { return nil }
    let stream = tower.nodes[readers[0]].outputs[0]
    guard cuts.contains(stream) else { return nil }
    return UnitProduct(group: group, factor: node.inputs[0], weight: weight, stream: stream)
  }
}
