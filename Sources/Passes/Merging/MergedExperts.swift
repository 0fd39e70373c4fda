import GraphIR
import Operators
import TensorCore

/// The experts that a layer is left with, and its router.
struct MergedExperts {
  /// The experts before that each comes from, ascending.
  private(set) var groups: [[Int]]
  /// The parameters of each, by the name that the first expert has for them.
  private(set) var parameters: [[String: Parameter]]
  /// The router's weight, a row for each.
  private(set) var router: Tensor
  /// What the router's weight is in the graph.
  let routerValue: Value
  /// How much each is used.
  private var shares: [Double]
  private let parts: [Part]

  /// A parameter of every expert: its name at the first, and which of its axes counts neurons.
  private struct Part {
    let name: String
    let neuronAxis: Int?
  }

  /// Makes them of the experts of `layer`.
  ///
  /// - Throws: ``PassError`` where experts shall merge that hold codes or masks, which have no mean.
  init(
    _ layer: ExpertLayer, in graph: Graph, shares: [Double], _ options: MergeExperts.Options,
    pass: String
  ) throws(PassError) {
    let count = layer.expertCount
    groups = (0..<count).map { [$0] }
    self.shares = shares
    parameters = [[String: Parameter]](repeating: [:], count: count)
    var parts: [Part] = []
    for (index, node) in layer.linears.enumerated() {
      for place in stride(from: 2, to: node.inputs.count, by: count) {
        let name = graph.name(of: node.inputs[place])
        let isWeight = place == 2
        // Neurons are what the first linear makes and the last one reads.
        let axis: Int? = index == 0 ? 0 : isWeight && index == layer.linears.count - 1 ? 1 : nil
        parts.append(Part(name: name, neuronAxis: axis))
        for expert in 0..<count {
          let value = node.inputs[place + expert]
          guard let parameter = graph.parameter(value),
            parameter.quantization == nil && parameter.mask == nil || options.method == .prune
          else {
            throw .unsuitable(
              pass: pass,
              "\(graph.name(of: value)) holds codes or is masked: merge experts before you prune or "
                + "quantize them")
          }
          parameters[expert][name] = parameter
        }
      }
    }
    self.parts = parts
    guard case .node(let index) = graph.origin(of: layer.logits),
      let weight = graph.parameter(graph.nodes[index].inputs[1])?.materialized
    else { throw .unsuitable(pass: pass, "\(layer.name) has no router of its own") }
    router = weight
    routerValue = graph.nodes[index].inputs[1]
    switch options.method {
    case .prune: keepMostUsed(options.experts)
    case .merge: while groups.count > options.experts { mergeNearest() }
    }
  }

  private mutating func keepMostUsed(_ count: Int) {
    let kept = shares.indices.sorted { (shares[$1], $0) < (shares[$0], $1) }.prefix(count).sorted()
    groups = kept.map { groups[$0] }
    parameters = kept.map { parameters[$0] }
    shares = kept.map { shares[$0] }
    router = router.selecting(kept, onAxis: 0)
  }

  /// Makes one of the two experts that are nearest each other.
  private mutating func mergeNearest() {
    var best: (distance: Double, a: Int, b: Int, order: [Int])?
    for a in groups.indices {
      for b in groups.indices where b > a {
        let order = alignment(of: b, to: a)
        // An expert that is never used still joins the one it is most like.
        let (first, second) = (shares[a] + 1e-3, shares[b] + 1e-3)
        let weight = first * second / (first + second)
        let distance = weight * squaredDistance(a, b, order)
        if distance < best?.distance ?? .infinity { best = (distance, a, b, order) }
      }
    }
    guard let best else { return }
    let (a, b) = (best.a, best.b)
    let total = shares[a] + shares[b]
    let share = total > 0 ? Float(shares[b] / total) : 0.5
    for part in parts {
      guard let own = parameters[a][part.name]?.tensor,
        let other = aligned(part, of: b, best.order)
      else { continue }
      parameters[a][part.name] = Parameter(Self.mean(own, other, share))
    }
    let width = router.shape[1]
    var rows = router.elements(of: Float.self)
    for k in 0..<width {
      rows[a * width + k] += share * (rows[b * width + k] - rows[a * width + k])
    }
    router = Tensor(shape: router.shape, rows).selecting(
      groups.indices.filter { $0 != b }, onAxis: 0)
    groups[a] = (groups[a] + groups[b]).sorted()
    shares[a] = total
    groups.remove(at: b)
    parameters.remove(at: b)
    shares.remove(at: b)
  }

  /// Which neuron of expert `b` fits each of expert `a` best.
  private func alignment(of b: Int, to a: Int) -> [Int] {
    var scores: [Double] = []
    var count = 0
    for part in parts {
      guard let axis = part.neuronAxis, let left = parameters[a][part.name]?.tensor,
        let right = parameters[b][part.name]?.tensor
      else { continue }
      count = left.shape[axis]
      if scores.isEmpty { scores = [Double](repeating: 0, count: count * count) }
      let (x, y) = (left.rows(alongAxis: axis), right.rows(alongAxis: axis))
      let products = Matrix.productTransposed(
        m: count, n: count, k: x.count / max(count, 1), x, y, threadCount: 1)
      for index in scores.indices { scores[index] += Double(products[index]) }
    }
    return LinearAssignment.maximizing(scores, count: count)
  }

  private func aligned(_ part: Part, of expert: Int, _ order: [Int]) -> Tensor? {
    guard let tensor = parameters[expert][part.name]?.tensor else { return nil }
    return part.neuronAxis.map { tensor.selecting(order, onAxis: $0) } ?? tensor
  }

  private func squaredDistance(_ a: Int, _ b: Int, _ order: [Int]) -> Double {
    parts.reduce(0) { sum, part in
      guard let own = parameters[a][part.name]?.tensor, let other = aligned(part, of: b, order)
      else { return sum }
      return sum
        + zip(own.elements(of: Float.self), other.elements(of: Float.self)).reduce(0.0) {
          $0 + Double($1.0 - $1.1) * Double($1.0 - $1.1)
        }
    }
  }

  private static func mean(_ a: Tensor, _ b: Tensor, _ share: Float) -> Tensor {
    Tensor(
      shape: a.shape,
      zip(a.elements(of: Float.self), b.elements(of: Float.self)).map { $0 + share * ($1 - $0) })
  }
}

extension Tensor {
  /// The elements of each index of `axis`, of a tensor of one or two axes, one index behind the
  /// other.
  fileprivate func rows(alongAxis axis: Int) -> [Float] {
    let elements = elements(of: Float.self)
    guard shape.count == 2, axis == 1 else { return elements }
    return (0..<shape[1]).flatMap { column in
      (0..<shape[0]).map { elements[$0 * shape[1] + column] }
    }
  }
}
