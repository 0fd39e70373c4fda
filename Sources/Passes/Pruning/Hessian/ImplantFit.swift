import Execution
import GraphIR
import Operators
import TensorCore

/// Lets the paths of implants make up for what went, one after the other in the order of the graph.
///
/// The target of a path is what the dense model's layer gives beyond the pruned model's, each on its
/// own inputs: a path also makes up for what the layers before it could not.
struct ImplantFit {
  private let dense: Graph
  private let options: NeuralImplant.Options
  private let pairs: PairSet
  private let threadCount: Int

  init(
    dense: Graph, options: NeuralImplant.Options, context: borrowing PassContext
  ) throws(PassError) {
    guard let lend = context.pairs else { throw .needsData(pass: "neural implant") }
    do { pairs = try lend() } catch { throw .calibration(error) }
    self.dense = dense
    self.options = options
    threadCount = context.threadCount
  }

  /// `graph` with the path at `site` fitted.
  func fitted(_ site: ImplantSite, in graph: Graph) throws(PassError) -> Graph {
    do {
      return try site.attention == nil ? neurons(site, graph) : heads(site, graph)
    } catch let error as GraphError {
      throw .graph(pass: HessianImportance.passName, error)
    } catch let error as PassError {
      throw error
    } catch {
      throw .calibration(error)
    }
  }

  /// A map of rank r from the layer's input to what is missing, by reduced-rank regression: with
  /// the least-squares map `W`, its projection on the leading directions of what it gives.
  ///
  /// - Source: Izenman, "Reduced-Rank Regression for the Multivariate Linear Model", Journal of
  ///   Multivariate Analysis 5, 1975.
  private func neurons(_ site: ImplantSite, _ graph: Graph) throws -> Graph {
    let moments = try moments(site, graph, features: "\(site.name).in")
    let map = try regression(moments, site)
    let (width, height) = (moments.width, moments.height)
    // W C Wᵀ, the second moments of what the map gives.
    let spread = product(map, rows: height, moments.inputs, columns: width)
    var given = [Double](repeating: 0, count: height * height)
    for i in 0..<height {
      for j in 0..<height {
        var sum = 0.0
        for k in 0..<width { sum += spread[i * width + k] * map[j * width + k] }
        given[i * height + j] = sum
      }
    }
    for i in 0..<height {
      for j in 0..<i {
        let mean = (given[i * height + j] + given[j * height + i]) / 2
        given[i * height + j] = mean
        given[j * height + i] = mean
      }
    }
    let directions = SymmetricEigen.leading(given, count: height, rank: site.band.rank).vectors
    let inner = directions.map { direction in
      (0..<width).map { column in
        (0..<height).reduce(0.0) { $0 + direction[$1] * map[$1 * width + column] }
      }
    }
    var result = graph
    try set(&result, "\(site.name).in.weight", inner.joined().map { $0 })
    let outer = (0..<height).flatMap { row in directions.map { $0[row] } }
    try set(&result, "\(site.outName).weight", outer)
    var given0 = [Double](repeating: 0, count: height)
    for (direction, row) in zip(directions, inner) {
      let along = zip(row, moments.inputMeans).reduce(0) { $0 + $1.0 * $1.1 }
      for k in 0..<height { given0[k] += direction[k] * along }
    }
    try shiftBias(&result, site, by: zip(moments.targetMeans, given0).map { $0 - $1 })
    return result
  }

  /// Narrow heads whose scores and values are the best of their width on the layer's inputs, and
  /// outputs by least squares.
  private func heads(_ site: ImplantSite, _ graph: Graph) throws -> Graph {
    var result = graph
    let inputs = try moments(site, graph, features: "\(site.name).value")
    let width = inputs.width
    // Second moments about zero: queries and keys are not centred.
    var raw = inputs.inputs
    for i in 0..<width {
      for j in 0..<width { raw[i * width + j] += inputs.inputMeans[i] * inputs.inputMeans[j] }
    }
    let headWidth = site.band.group.unit
    var parts: [String: [Double]] = [:]
    for head in site.band.units {
      let rows = (head * headWidth)..<((head + 1) * headWidth)
      let weights = try (0..<3).map { try slice(site.producers[$0], rows) }
      // The query's bias is a column that meets a constant one.
      var wide = [Double](repeating: 0, count: (width + 1) * (width + 1))
      for i in 0..<width {
        for j in 0..<width { wide[i * (width + 1) + j] = raw[i * width + j] }
        wide[i * (width + 1) + width] = inputs.inputMeans[i]
        wide[width * (width + 1) + i] = inputs.inputMeans[i]
      }
      wide[width * (width + 1) + width] = 1
      var query: [Double] = []
      for row in 0..<headWidth {
        query += weights[0].weight[(row * width)..<((row + 1) * width)]
        query.append(weights[0].bias[row])
      }
      let scores = LowRankProduct(
        left: gram(query, headWidth, wide, width + 1),
        right: gram(weights[1].weight, headWidth, raw, width), count: headWidth,
        rank: site.band.rank)
      let narrowQuery = product(scores.left, rows: site.band.rank, query, columns: width + 1)
      for row in 0..<site.band.rank {
        let whole = narrowQuery[(row * (width + 1))..<((row + 1) * (width + 1))]
        parts["query.weight", default: []] += whole.dropLast()
        parts["query.bias", default: []] += whole.suffix(1)
      }
      parts["key.weight", default: []] += product(
        scores.right, rows: site.band.rank, weights[1].weight, columns: width)
      let output = try columns(site.consumer, rows)
      let values = LowRankProduct(
        left: gram(output.weight, headWidth, nil, output.height),
        right: gram(weights[2].weight, headWidth, raw, width), count: headWidth,
        rank: site.band.rank)
      parts["value.weight", default: []] += product(
        values.right, rows: site.band.rank, weights[2].weight, columns: width)
    }
    for (name, elements) in parts { try set(&result, "\(site.name).\(name)", elements) }
    let moments = try moments(site, result, features: site.outName)
    let map = try regression(moments, site)
    try set(&result, "\(site.outName).weight", map)
    let given = product(map, rows: moments.height, moments.inputMeans, columns: 1)
    try shiftBias(&result, site, by: zip(moments.targetMeans, given).map { $0 - $1 })
    return result
  }

  /// The weights that map features best to targets, `[height, width]`, damped.
  private func regression(_ moments: ImplantMoments, _ site: ImplantSite) throws -> [Double] {
    let width = moments.width
    var damped = moments.inputs
    let mean = (0..<width).reduce(0) { $0 + damped[$1 * width + $1] } / Double(max(width, 1))
    for k in 0..<width { damped[k * width + k] += max(options.damping * mean, 1e-12) }
    guard let factor = CholeskyFactor(damped, count: width, threadCount: threadCount) else {
      throw PassError.parameter(
        name: site.name, "meets inputs whose second moments are not finite")
    }
    var map: [Double] = []
    for row in 0..<moments.height {
      var solution = Array(moments.products[(row * width)..<((row + 1) * width)])
      factor.solve(&solution)
      map += solution
    }
    return map
  }

  private func moments(
    _ site: ImplantSite, _ graph: Graph, features: String
  ) throws -> ImplantMoments {
    try ImplantMoments(
      dense: dense, pruned: graph, target: site.consumer.name, features: features, pairs: pairs,
      sampleCount: options.sampleCount, threadCount: threadCount)
  }

  /// Rows of a linear operation of the dense model, with the bias's elements.
  private func slice(
    _ node: Node, _ rows: Range<Int>
  ) throws(PassError) -> (weight: [Double], bias: [Double]) {
    let weight = try dense.finiteElements(of: node.inputs[1]).selecting(Array(rows), onAxis: 0)
    guard node.inputs.count > 2 else {
      return (weight.elements(of: Float.self).map(Double.init), rows.map { _ in 0 })
    }
    let bias = try dense.finiteElements(of: node.inputs[2]).selecting(Array(rows), onAxis: 0)
    return (
      weight.elements(of: Float.self).map(Double.init),
      bias.elements(of: Float.self).map(Double.init)
    )
  }

  /// Columns of a linear operation of the dense model, as rows.
  private func columns(
    _ node: Node, _ columns: Range<Int>
  ) throws(PassError) -> (weight: [Double], height: Int) {
    let weight = try dense.finiteElements(of: node.inputs[1]).selecting(Array(columns), onAxis: 1)
    let turned = weight.transposed(of: Float.self).elements(of: Float.self)
    return (turned.map(Double.init), weight.shape[0])
  }

  private func set(_ graph: inout Graph, _ name: String, _ elements: [Double]) throws(GraphError) {
    guard let value = graph.value(named: name), let old = graph.parameter(value) else {
      throw .unknownName(name)
    }
    try graph.setParameter(
      value, Parameter(Tensor(shape: old.tensor.shape, elements.map { Float($0) })))
  }

  /// Adds `shift` to the bias of the layer that lost units, where it has one.
  private func shiftBias(
    _ graph: inout Graph, _ site: ImplantSite, by shift: [Double]
  ) throws(PassError) {
    guard let node = graph.nodes.first(where: { $0.name == site.consumer.name }),
      node.inputs.count > 2
    else { return }
    let old = try graph.finiteElements(of: node.inputs[2])
    let sums = zip(old.elements(of: Float.self), shift).map { Float(Double($0) + $1) }
    do throws(GraphError) {
      try graph.setParameter(node.inputs[2], Parameter(Tensor(shape: old.shape, sums)))
    } catch {
      throw .graph(pass: HessianImportance.passName, error)
    }
  }

  /// `a b` for row-major `a` with `rows` rows.
  private func product(
    _ a: [Double], rows: Int, _ b: [Double], columns: Int
  ) -> [Double] {
    let inner = rows == 0 ? 0 : a.count / rows
    var result = [Double](repeating: 0, count: rows * columns)
    for i in 0..<rows {
      for k in 0..<inner {
        let factor = a[i * inner + k]
        for j in 0..<columns { result[i * columns + j] += factor * b[k * columns + j] }
      }
    }
    return result
  }

  /// `a m aᵀ`, with the identity where there is no `m`.
  private func gram(_ a: [Double], _ rows: Int, _ m: [Double]?, _ width: Int) -> [Double] {
    let left = m.map { product(a, rows: rows, $0, columns: width) } ?? a
    var result = [Double](repeating: 0, count: rows * rows)
    for i in 0..<rows {
      for j in 0...i {
        var sum = 0.0
        for k in 0..<width { sum += left[i * width + k] * a[j * width + k] }
        result[i * rows + j] = sum
        result[j * rows + i] = sum
      }
    }
    return result
  }
}

/// The best replacement of rank r for a product `Aᵀ B` of matrices of n rows, by their Gram
/// matrices.
///
/// With `B Bᵀ = R Rᵀ` and the leading eigenvectors `U` and values `Λ` of `Rᵀ (A Aᵀ) R`, the leading
/// singular vectors of `Aᵀ B` give `Aᵀ left ᵀ right B` for `left = (R U)ᵀ` and
/// `right = Λ⁻¹ (R U)ᵀ (A Aᵀ)`.
package struct LowRankProduct {
  /// `[rank, count]`, which `A` is to be multiplied with.
  package let left: [Double]
  /// `[rank, count]`, which `B` is to be multiplied with.
  package let right: [Double]

  /// Factors the product of matrices with the Gram matrices `left`, `A Aᵀ`, and `right`, `B Bᵀ`.
  package init(left gram: [Double], right other: [Double], count: Int, rank: Int) {
    var damped = other
    let mean = (0..<count).reduce(0) { $0 + other[$1 * count + $1] } / Double(max(count, 1))
    for k in 0..<count { damped[k * count + k] += 1e-9 * mean + 1e-30 }
    let root =
      CholeskyFactor(damped, count: count)?.lower ?? [Double](repeating: 0, count: count * count)
    func multiply(_ a: [Double], _ b: [Double], transposesA: Bool = false) -> [Double] {
      var result = [Double](repeating: 0, count: count * count)
      for i in 0..<count {
        for k in 0..<count {
          let factor = transposesA ? a[k * count + i] : a[i * count + k]
          for j in 0..<count { result[i * count + j] += factor * b[k * count + j] }
        }
      }
      return result
    }
    let inner = multiply(root, multiply(gram, root), transposesA: true)
    let (values, vectors) = SymmetricEigen.leading(inner, count: count, rank: rank)
    let largest = max(values.first ?? 0, 1e-300)
    var left: [Double] = []
    var right: [Double] = []
    for (value, vector) in zip(values, vectors) {
      let row = (0..<count).map { i in
        (0..<count).reduce(0.0) { $0 + root[i * count + $1] * vector[$1] }
      }
      let isLost = value <= 1e-12 * largest
      left += row
      for j in 0..<count {
        let sum = (0..<count).reduce(0.0) { $0 + row[$1] * gram[$1 * count + j] }
        right.append(isLost ? 0 : sum / value)
      }
    }
    self.left = left
    self.right = right
  }
}
