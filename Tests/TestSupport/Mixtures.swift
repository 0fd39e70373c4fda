import GraphIR
import Operators
import TensorCore

extension Graph {
  /// This dense model with feed-forward parts that are mixtures, whose experts are alike but for some
  /// noise.
  package func withMixtures(
    experts: Int, route: RouteTokens = RouteTokens(topK: 2), normalizesGates: Bool = true,
    routerScale: Double = 0.7, seed: UInt64 = 9,
    where isMixed: (String) -> Bool = { $0.contains(".mlp") }
  ) throws(GraphError) -> Graph {
    var random = SplitMix64(seed: seed)
    return try rewritten { node, rewriter throws(GraphError) in
      guard isMixed(node.name), node.op is Linear else {
        return try rewriter.copy(node)
      }
      let mlp = node.name.split(separator: ".").prefix(4).joined(separator: ".")
      let input = try rewriter.image(of: node.inputs[0])
      if node.name.hasSuffix("fc1") {
        let width = tensorType(of: node.inputs[0]).extents.last?.fixedCount ?? 0
        let router = try rewriter.result.addParameter(
          "\(mlp).router.weight",
          Parameter(random.normalTensor([experts, width], scale: routerScale)))
        let logits = try rewriter.result.add("\(mlp).router", Linear(), input, router)
        _ = try rewriter.result.add("\(mlp).assignment", route, logits)
      }
      guard let logits = rewriter.result.value(named: "\(mlp).router"),
        let assignment = rewriter.result.value(named: "\(mlp).assignment")
      else { throw .unknownName(mlp) }
      var operands = [input, assignment]
      for parameter in node.inputs.dropFirst() {
        for expert in 0..<experts {
          let name = name(of: parameter)
          guard let old = self.parameter(parameter)?.tensor else { throw .unknownName(name) }
          let noise = random.normalTensor(old.shape, scale: 0.1)
          let sum = Tensor(
            shape: old.shape,
            zip(old.elements(of: Float.self), noise.elements(of: Float.self)).map { $0 + $1 })
          let own = ExpertLayer.parameterName(name, part: mlp, expert: expert)
          operands.append(try rewriter.result.addParameter(own, Parameter(sum)))
        }
      }
      let op = GroupedLinear(experts: experts, hasBias: true)
      var made = try rewriter.result.addNode(node.name, op, operands)[0]
      if node.name.hasSuffix("fc2") {
        let gates = try rewriter.result.add(
          "\(mlp).gates", ExpertGates(isNormalized: normalizesGates), logits, assignment)
        made = try rewriter.result.add("\(mlp).mixture", CombineExperts(), made, gates)
      }
      rewriter.setImage(of: node.outputs[0], to: made)
    }
  }
}

extension SplitMix64 {
  /// An assignment to `experts` experts: two in three slots have one with room, the others are empty
  /// or have one that is full.
  package mutating func slotTensor(_ shape: [Int], experts: Int) -> Tensor {
    let codes = (0..<shape.reduce(1, *)).map { _ -> Int32 in
      let drawn = nextIndex(below: 3 * experts)
      if drawn < 2 * experts { return Int32(drawn % experts) }
      return drawn == 2 * experts ? SlotCode.none : SlotCode.full(drawn - 2 * experts)
    }
    return Tensor(shape: shape, codes)
  }
}
