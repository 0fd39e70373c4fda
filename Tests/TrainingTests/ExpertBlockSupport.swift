import GraphIR
import Operators
import TensorCore
import TestSupport

/// A feed-forward layer of experts behind a router, on its own.
struct ExpertBlock {
  var items = 2
  var tokens = 6
  var width = 5
  var neurons = 7
  var experts = 3
  var routing = RouteTokens(topK: 2)
  var isNormalized = true

  /// Names and values in the graph.
  struct Values {
    var x: Value
    var logits: Value
    var assignment: Value
    var y: Value
  }

  /// Random tensors by the names of the graph's inputs.
  func tensors(seed: UInt64) -> [String: Tensor] {
    var random = SplitMix64(seed: seed)
    var tensors = [
      "x": random.normalTensor([items, tokens, width]),
      "router": random.normalTensor([experts, width]),
    ]
    for expert in 0..<experts {
      tensors["fc1.\(expert).weight"] = random.normalTensor([neurons, width], scale: 0.6)
      tensors["fc1.\(expert).bias"] = random.normalTensor([neurons], scale: 0.3)
      tensors["fc2.\(expert).weight"] = random.normalTensor([width, neurons], scale: 0.6)
      tensors["fc2.\(expert).bias"] = random.normalTensor([width], scale: 0.3)
    }
    return tensors
  }

  /// Adds the layer; every tensor is an input.
  func add(to graph: inout Graph) throws -> Values {
    func input(_ name: String, _ shape: [Int]) throws -> Value {
      try graph.addInput(name, TensorType(.float32, shape: shape))
    }
    let x = try graph.addInput(
      "x", TensorType(.float32, [.symbol("batch"), .fixed(tokens), .fixed(width)]))
    let logits = try graph.add("logits", Linear(), x, try input("router", [experts, width]))
    let assignment = try graph.add("assignment", routing, logits)
    let gates = try graph.add(
      "gates", ExpertGates(isNormalized: isNormalized), logits, assignment)
    func grouped(_ name: String, _ x: Value, _ shape: [Int]) throws -> Value {
      var inputs = [x, assignment]
      for expert in 0..<experts { inputs.append(try input("\(name).\(expert).weight", shape)) }
      for expert in 0..<experts {
        inputs.append(try input("\(name).\(expert).bias", [shape[0]]))
      }
      return try graph.addNode(name, GroupedLinear(experts: experts, hasBias: true), inputs)[0]
    }
    let hidden = try grouped("fc1", x, [neurons, width])
    let active = try graph.add("active", QuickGELU(), hidden)
    let rows = try grouped("fc2", active, [width, neurons])
    return Values(
      x: x, logits: logits, assignment: assignment,
      y: try graph.add("y", CombineExperts(), rows, gates))
  }

  /// The layer alone, with output `y`.
  func graph() throws -> Graph {
    var graph = Graph()
    try graph.addOutput("y", try add(to: &graph).y)
    return graph
  }
}

/// A layer of experts by loops in float64, from the tensors of an ``ExpertBlock``.
struct ExpertLoops {
  let block: ExpertBlock
  let tensors: [String: Tensor]

  private func row(_ name: String, _ index: Int, _ width: Int) -> ArraySlice<Double> {
    (tensors[name]?.doubles ?? [])[(index * width)..<((index + 1) * width)]
  }

  private func linear(_ x: [Double], _ name: String, _ out: Int) -> [Double] {
    (0..<out).map { channel in
      zip(x, row(name + ".weight", channel, x.count)).reduce(
        row(name + ".bias", channel, 1).reduce(0, +)
      ) { $0 + $1.0 * $1.1 }
    }
  }

  /// What expert `expert` makes of `x`.
  func expert(_ expert: Int, _ x: [Double]) -> [Double] {
    let hidden = linear(x, "fc1.\(expert)", block.neurons).map {
      $0 / (1 + Double.exp(-1.702 * $0))
    }
    return linear(hidden, "fc2.\(expert)", block.width)
  }

  /// The dense sum over all experts, with weights zero outside each token's largest `topK`.
  func denseSum(topK: Int) -> [Double] {
    (0..<(block.items * block.tokens)).flatMap { token -> [Double] in
      let x = Array(row("x", token, block.width))
      let logits = (0..<block.experts).map { expert in
        zip(x, row("router", expert, block.width)).reduce(0) { $0 + $1.0 * $1.1 }
      }
      let least = logits.sorted(by: >)[topK - 1]
      let shares = logits.map { $0 >= least ? Double.exp($0) : 0 }
      let total = (block.isNormalized ? shares : logits.map(Double.exp)).reduce(0, +)
      var sum = [Double](repeating: 0, count: block.width)
      for expert in 0..<block.experts {
        let made = self.expert(expert, x)
        for k in sum.indices { sum[k] += shares[expert] / total * made[k] }
      }
      return sum
    }
  }
}
