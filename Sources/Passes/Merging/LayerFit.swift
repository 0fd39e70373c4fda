import GraphIR
import Operators
import TensorCore

/// The linear layers of a merged model, solved for the features of both models that it comes from.
///
/// For inputs `Z`, the mean of what both models' layers read where they share channels and their
/// own where they do not, and outputs `Z*` put together likewise, a layer becomes the `W` with the
/// least `|W Z + b - Z*|² + λ |W - W₀|²` for the weights `W₀` that it starts with.
package enum LayerFit {
  /// What became of one layer.
  package struct Row: Codable, Sendable {
    /// The name of the layer.
    package let layer: String
    /// `|W₀ Z + b₀ - Z*| / |Z*|`.
    package let errorBefore: Double
    /// The same for the weights found.
    package let errorAfter: Double
  }

  /// `merged` with its linear layers solved on the data of the context.
  static func solve(
    _ first: Graph, _ second: Graph, merged: Graph, _ layouts: [PartialLayout], ridge: Double,
    in context: borrowing PassContext
  ) throws(PassError) -> (graph: Graph, rows: [Row]) {
    var layoutOfValue: [Value: PartialLayout] = [:]
    for layout in layouts {
      for value in layout.group.group.values.keys { layoutOfValue[value] = layout }
    }
    let consumers = first.consumers()
    let weights = first.nodes.filter { $0.op is Linear }.map { $0.inputs[1] }.filter {
      first.parameter($0) != nil && consumers[Int($0.index)].count == 1
    }
    let layers = try first.linearLayers(of: weights, pass: Merging.name)
    var result = merged
    var rows: [Row] = []
    let costs = layers.map { layer in
      let shape = merged.tensorType(of: layer.weight).extents.compactMap(\.fixedCount)
      return 8 * shape[1] * (shape[0] + shape[1])
    }
    for portion in PairedRun.portions(costs, limit: PairedRun.memoryLimit) {
      var fits: [LayerProblemOfTwo] = []
      for layer in layers[portion] {
        let output = first.nodes[layer.node].outputs[0]
        fits.append(
          try LayerProblemOfTwo(
            layer, in: merged, input: layoutOfValue[layer.input], output: layoutOfValue[output],
            names: (first.name(of: layer.input), first.name(of: output))))
      }
      try gather(&fits, first, second, in: context)
      for fit in fits {
        let (weight, bias, row) = fit.solution(ridge: ridge, threadCount: context.threadCount)
        rows.append(row)
        do {
          if let weight { try result.setParameter(fit.layer.weight, Parameter(weight)) }
          if let bias, let value = fit.layer.bias {
            try result.setParameter(value, Parameter(bias))
          }
        } catch {
          throw .graph(pass: Merging.name, error)
        }
      }
    }
    return (result, rows)
  }

  private static func gather(
    _ fits: inout [LayerProblemOfTwo], _ first: Graph, _ second: Graph,
    in context: borrowing PassContext
  ) throws(PassError) {
    let names = Set(fits.flatMap { [$0.inputName, $0.outputName] })
    let threads = context.threadCount
    // Values come in alphabetical order, so both sides of a layer wait for each other.
    var waiting: [String: PairedRun.Rows] = [:]
    var changed = fits
    try PairedRun.forEachBatch(first, second, values: names, in: context) { name, values in
      waiting[name] = values
      for index in changed.indices {
        let (input, output) = (changed[index].inputName, changed[index].outputName)
        guard name == max(input, output), let x = waiting[input], let y = waiting[output] else {
          continue
        }
        changed[index].add(x, y, threadCount: threads)
      }
    }
    fits = changed
  }
}

/// The least-squares problem of one layer of a merged model.
private struct LayerProblemOfTwo {
  let layer: LinearLayer
  let inputName: String
  let outputName: String
  private let input: PartialLayout?
  private let output: PartialLayout?
  private let rows: Int
  private let columns: Int
  private let weight: [Float]
  private let bias: [Float]?
  private let addend: [Float]
  private var inputs: ShiftedProducts
  private var errors: ShiftedProducts
  private var errorEnergy = 0.0
  private var energy = 0.0

  init(
    _ layer: LinearLayer, in merged: Graph, input: PartialLayout?, output: PartialLayout?,
    names: (input: String, output: String)
  ) throws(PassError) {
    guard let tensor = merged.parameter(layer.weight)?.tensor else {
      throw .unsuitable(pass: Merging.name, "layer \(layer.name) has no weight")
    }
    self.layer = layer
    self.input = input
    self.output = output
    (inputName, outputName) = names
    (rows, columns) = (tensor.shape[0], tensor.shape[1])
    weight = tensor.elements(of: Float.self)
    bias = layer.bias.flatMap { merged.parameter($0)?.tensor.elements(of: Float.self) }
    // A bias that another layer reads too stays, and counts all the same.
    let node = merged.nodes[layer.node]
    addend =
      node.inputs.dropFirst(2).first.flatMap {
        merged.parameter($0)?.tensor.elements(of: Float.self)
      } ?? []
    inputs = ShiftedProducts(columns, columns)
    errors = ShiftedProducts(rows, columns)
  }

  mutating func add(_ x: PairedRun.Rows, _ y: PairedRun.Rows, threadCount: Int) {
    let z = Self.merged(x, input)
    let target = Self.merged(y, output)
    let count = z.count / max(columns, 1)
    var error = Matrix.productTransposed(
      m: count, n: rows, k: columns, z, weight, threadCount: threadCount)
    for row in 0..<count {
      for channel in 0..<rows {
        let place = row * rows + channel
        let answer = error[place] + (addend.isEmpty ? 0 : addend[channel])
        error[place] = target[place] - answer
        errorEnergy += Double(error[place]) * Double(error[place])
        energy += Double(target[place]) * Double(target[place])
      }
    }
    inputs.add(z, z, threadCount: threadCount)
    errors.add(error, z, threadCount: threadCount)
  }

  private static func merged(_ rows: PairedRun.Rows, _ layout: PartialLayout?) -> [Float] {
    if let layout { return layout.merged(rows.first, rows.second) }
    return zip(rows.first, rows.second).map { ($0 + $1) / 2 }
  }

  /// The weight and bias, nil where they stay, and what they bring.
  func solution(
    ridge: Double, threadCount: Int
  ) -> (weight: Tensor?, bias: Tensor?, row: LayerFit.Row) {
    let before = energy > 0 ? (errorEnergy / energy).squareRoot() : 0
    let stays = LayerFit.Row(layer: layer.name, errorBefore: before, errorAfter: before)
    // What rounding leaves between models that are the same is nothing to fit.
    guard inputs.rowCount > 0, before > 1e-5 else { return (nil, nil, stays) }
    let isCentred = bias != nil
    var gram = inputs.moments(centred: isCentred)
    let mean = (0..<columns).reduce(0.0) { $0 + gram[$1 * columns + $1] } / Double(columns)
    guard mean > 0 else { return (nil, nil, stays) }
    let cross = errors.moments(centred: isCentred)
    let exact = gram
    for index in 0..<columns { gram[index * columns + index] += ridge * mean }
    guard let factor = CholeskyFactor(gram, count: columns, threadCount: threadCount) else {
      return (nil, nil, stays)
    }
    let inverse = factor.inverse(threadCount: threadCount).map { Float($0) }
    let change = LayerProblem.multiply(
      cross.map { Float($0) }, inverse, rows: rows, columns: columns, threadCount: threadCount)
    let solved = zip(weight, change).map { $0 + $1 }
    // |E - D Z|² = |E|² - 2 tr(D (E Zᵀ)ᵀ) + tr(D Z Zᵀ Dᵀ), about the means where a bias takes these.
    var left = errorEnergy / Double(inputs.rowCount)
    let offsets = errors.means(ofSecond: false)
    if isCentred { left -= offsets.reduce(0) { $0 + $1 * $1 } }
    left -= 2 * zip(change, cross).reduce(0) { $0 + Double($1.0) * $1.1 }
    left += LayerProblem.energy(change, exact, columns: columns, threadCount: threadCount)
    let whole = energy / Double(inputs.rowCount)
    let after = (max(left, 0) / whole).squareRoot()
    guard after < before, solved.allSatisfy(\.isFinite) else { return (nil, nil, stays) }
    let means = inputs.means(ofSecond: false)
    let shifted = bias.map { bias in
      Tensor(
        shape: [rows],
        (0..<rows).map { row in
          let drift = (0..<columns).reduce(0.0) {
            $0 + Double(change[row * columns + $1]) * means[$1]
          }
          return Float(Double(bias[row]) + offsets[row] - drift)
        })
    }
    return (
      Tensor(shape: [rows, columns], solved), shifted,
      LayerFit.Row(layer: layer.name, errorBefore: before, errorAfter: after)
    )
  }
}
