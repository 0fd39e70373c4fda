import GraphIR
import TensorCore

/// Chooses the elements of weights that go, by importance and to the exact count.
package struct WeightMasks: Sendable {
  private let importance: any ElementImportance
  /// The share of every weight's elements that a global comparison leaves, so that no layer ends.
  package static let floor = 0.05

  /// Makes masks by `importance`.
  package init(_ importance: any ElementImportance) { self.importance = importance }

  /// How many of `count` elements a share of `sparsity` is, rounded down.
  package static func prunedCount(_ sparsity: Double, of count: Int) -> Int {
    // A share such as 0.29 of 100 must be 29 although its product is a little less.
    min(Int((sparsity * Double(count) + 1e-6).rounded(.down)), count)
  }

  /// A mask for each of `weights`, one by one: exactly `floor(sparsity · count)` elements go.
  ///
  /// Equal importance: the lower index goes first. What a mask already hides goes before all else
  /// and stays hidden.
  package func perLayer(
    _ weights: [Value], in graph: Graph, sparsity: Double
  ) throws(PassError) -> [Value: Tensor] {
    var masks: [Value: Tensor] = [:]
    for weight in weights {
      let keys = try keys(of: weight, in: graph)
      let border = Self.border(of: [keys], lowest: Self.prunedCount(sparsity, of: keys.count))
      var tied = border?.tiedCount ?? 0
      masks[weight] = mask(weight, in: graph, keys, border?.key ?? 0, &tied)
    }
    return masks
  }

  /// A mask for each of `weights`, all compared at once: `floor(sparsity · count)` elements go.
  ///
  /// Every weight keeps at least the share ``floor`` of its elements, or less where the sparsity
  /// asks for it.
  package func global(
    _ weights: [Value], in graph: Graph, sparsity: Double
  ) throws(PassError) -> [Value: Tensor] {
    let total = weights.reduce(0) { $0 + (graph.parameter($1)?.tensor.count ?? 0) }
    let wanted = Self.prunedCount(sparsity, of: total)
    let cap = max(1 - Self.floor, sparsity)
    guard wanted > 0 else { return try perLayer(weights, in: graph, sparsity: 0) }
    var selector = KeySelector(lowestCount: wanted)
    for weight in weights { selector.add(try cappedKeys(of: weight, in: graph, cap)) }
    selector.beginSecondRound()
    for weight in weights { selector.add(try cappedKeys(of: weight, in: graph, cap)) }
    guard let border = selector.threshold else { return [:] }
    var tied = border.tiedCount
    var masks: [Value: Tensor] = [:]
    for weight in weights {
      let keys = try cappedKeys(of: weight, in: graph, cap)
      masks[weight] = mask(weight, in: graph, keys, border.key, &tied)
    }
    return masks
  }

  /// A mask for each of `weights` that keeps the `kept` most important of every `block` neighbours
  /// along the input axis.
  ///
  /// Equal importance: the lower index stays.
  ///
  /// - Throws: ``PassError`` when `block` does not divide an input axis.
  package func pattern(
    _ weights: [Value], in graph: Graph, keeping kept: Int, of block: Int
  ) throws(PassError) -> [Value: Tensor] {
    var masks: [Value: Tensor] = [:]
    for weight in weights {
      let shape = graph.parameter(weight)?.tensor.shape ?? []
      guard let width = shape.last, width % block == 0 else {
        throw .option(
          name: "structure \(kept):\(block)",
          expected: "a block length that divides the input axis of \(graph.name(of: weight))",
          found: "\(shape.last ?? 0) inputs")
      }
      let keys = try keys(of: weight, in: graph)
      let old = graph.parameter(weight)?.mask
      masks[weight] = Tensor(shape: shape, of: UInt8.self) { mask in
        for start in stride(from: 0, to: keys.count, by: block) {
          let order = (start..<(start + block)).sorted { keys[$0] > keys[$1] }
          for place in order.prefix(kept) { mask[place] = 1 }
        }
        Self.hide(old, in: mask)
      }
    }
    return masks
  }

  /// A mask for each of `weights` that hides whole tiles of `rows` by `columns` elements, those of
  /// least importance in sum, one weight by itself: `floor(sparsity · tiles)` go.
  ///
  /// Equal importance: the lower index goes first.
  ///
  /// - Throws: ``PassError`` when tiles do not divide a weight.
  package func tiles(
    _ weights: [Value], in graph: Graph, rows: Int, columns: Int, sparsity: Double
  ) throws(PassError) -> [Value: Tensor] {
    var masks: [Value: Tensor] = [:]
    for weight in weights {
      let shape = graph.parameter(weight)?.tensor.shape ?? []
      guard shape.count == 2, shape[0] % rows == 0, shape[1] % columns == 0 else {
        throw .option(
          name: "structure \(rows)x\(columns)",
          expected: "tiles that divide the axes of \(graph.name(of: weight))",
          found: shape.map { "\($0)" }.joined(separator: " x "))
      }
      let (height, width) = (shape[0] / rows, shape[1] / columns)
      var sums = [Double](repeating: 0, count: height * width)
      let old = graph.parameter(weight)?.mask
      let tensor = try importance.importance(of: weight, in: graph)
      let mask = old?.elements(of: UInt8.self)
      tensor.withElements(of: Float.self) { elements in
        for index in elements.indices where mask?[index] != 0 {
          let element = Double(elements[index])
          sums[index / shape[1] / rows * width + index % shape[1] / columns] += element * element
        }
      }
      let order = sums.indices.sorted { (sums[$0], $0) < (sums[$1], $1) }
      let gone = Set(order.prefix(Self.prunedCount(sparsity, of: sums.count)))
      masks[weight] = Tensor(shape: shape, of: UInt8.self) { mask in
        for index in mask.indices {
          let tile = index / shape[1] / rows * width + index % shape[1] / columns
          mask[index] = gone.contains(tile) ? 0 : 1
        }
        Self.hide(old, in: mask)
      }
    }
    return masks
  }

  /// The importances as integers of the same order; what is masked comes first.
  private func keys(of weight: Value, in graph: Graph) throws(PassError) -> [UInt32] {
    let tensor = try importance.importance(of: weight, in: graph)
    let mask = graph.parameter(weight)?.mask?.elements(of: UInt8.self)
    return tensor.withElements(of: Float.self) { elements in
      elements.indices.map { index in
        // Nonnegative floats have the order of their bits; one is added to leave 0 to the masked.
        mask?[index] == 0 ? 0 : elements[index].magnitude.bitPattern + 1
      }
    }
  }

  /// The keys with the most important ones, those beyond the share `cap`, out of reach.
  private func cappedKeys(
    of weight: Value, in graph: Graph, _ cap: Double
  ) throws(PassError) -> [UInt32] {
    var keys = try keys(of: weight, in: graph)
    let reach = Int((cap * Double(keys.count)).rounded(.up))
    guard reach < keys.count, let border = Self.border(of: [keys], lowest: reach) else {
      return keys
    }
    var tied = border.tiedCount
    for index in keys.indices where keys[index] >= border.key {
      if keys[index] == border.key, tied > 0 {
        tied -= 1
      } else {
        keys[index] = .max
      }
    }
    return keys
  }

  private static func border(
    of keys: [[UInt32]], lowest count: Int
  ) -> KeySelector.Threshold? {
    guard count > 0 else { return nil }
    var selector = KeySelector(lowestCount: count)
    for keys in keys { selector.add(keys) }
    selector.beginSecondRound()
    for keys in keys { selector.add(keys) }
    return selector.threshold
  }

  /// Hides what lies below `border` and the next `tied` that lie on it.
  private func mask(
    _ weight: Value, in graph: Graph, _ keys: [UInt32], _ border: UInt32, _ tied: inout Int
  ) -> Tensor {
    let parameter = graph.parameter(weight)
    var left = tied
    let mask = Tensor(shape: parameter?.tensor.shape ?? [], of: UInt8.self) { mask in
      for index in mask.indices {
        if keys[index] == border, left > 0 {
          left -= 1
        } else if keys[index] >= border {
          mask[index] = 1
        }
      }
      Self.hide(parameter?.mask, in: mask)
    }
    tied = left
    return mask
  }

  private static func hide(_ old: Tensor?, in mask: UnsafeMutableBufferPointer<UInt8>) {
    old?.withElements(of: UInt8.self) { old in
      for index in mask.indices where old[index] == 0 { mask[index] = 0 }
    }
  }
}
