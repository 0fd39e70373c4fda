import Foundation
import GraphIR
import Operators
import TensorCore
import TestSupport

/// The image tower of a random CLIP with merged tokens, in plain float64 loops over rows.
struct PlainTower {
  let graph: Graph
  let extents: RandomCLIP
  let tokensPerLayer: Int

  init(_ graph: Graph, _ extents: RandomCLIP, tokensPerLayer: Int) {
    self.graph = graph
    self.extents = extents
    self.tokensPerLayer = tokensPerLayer
  }

  private func vector(_ name: String) -> [Double] {
    graph.parameter(named: name)?.tensor.elements(of: Float.self).map { Double($0) } ?? []
  }

  private func product(_ a: ArraySlice<Double>, _ b: ArraySlice<Double>) -> Double {
    var sum = 0.0
    for (x, y) in zip(a, b) { sum += x * y }
    return sum
  }

  private func linear(_ name: String, _ rows: [[Double]]) -> [[Double]] {
    let (weight, bias) = (vector(name + ".weight"), vector(name + ".bias"))
    let width = rows[0].count
    var result: [[Double]] = []
    for row in rows {
      var made = bias.isEmpty ? [Double](repeating: 0, count: weight.count / width) : bias
      for out in made.indices { made[out] += product(row[...], weight[(out * width)...]) }
      result.append(made)
    }
    return result
  }

  private func norm(_ name: String, _ rows: [[Double]]) -> [[Double]] {
    let (gamma, beta) = (vector(name + ".weight"), vector(name + ".bias"))
    let epsilon = Double(Float(1e-5))
    return rows.map { row in
      let mean = row.reduce(0, +) / Double(row.count)
      let centered = row.map { $0 - mean }
      let variance = product(centered[...], centered[...]) / Double(row.count)
      let factor = 1 / (variance + epsilon).squareRoot()
      return centered.indices.map { centered[$0] * factor * gamma[$0] + beta[$0] }
    }
  }

  private func added(_ a: [[Double]], _ b: [[Double]]) -> [[Double]] {
    zip(a, b).map { zip($0, $1).map { $0 + $1 } }
  }

  private func patches(_ pixels: [Double]) -> [[Double]] {
    let (size, patch) = (extents.imageSize, extents.patchSize)
    return (0..<((size / patch) * (size / patch))).map { index in
      let (top, left) = (index / (size / patch) * patch, index % (size / patch) * patch)
      return (0..<(3 * patch * patch)).map { k in
        let (channel, y, x) = (k / (patch * patch), k / patch % patch, k % patch)
        return pixels[(channel * size + top + y) * size + left + x]
      }
    }
  }

  private func attention(
    _ q: [[Double]], _ k: [[Double]], _ v: [[Double]], _ sizes: [Double]
  ) -> [[Double]] {
    let headWidth = extents.imageWidth / extents.imageHeads
    let scale = Double(1 / Float(headWidth).squareRoot())
    var result: [[Double]] = []
    for query in q {
      var row = [Double](repeating: 0, count: extents.imageWidth)
      for head in 0..<extents.imageHeads {
        let columns = (head * headWidth)..<((head + 1) * headWidth)
        var weights: [Double] = []
        for (key, size) in zip(k, sizes) {
          weights.append(size * exp(product(query[columns], key[columns]) * scale))
        }
        let sum = weights.reduce(0, +)
        for (weight, value) in zip(weights, v) {
          for column in columns { row[column] += weight / sum * value[column] }
        }
      }
      result.append(row)
    }
    return result
  }

  /// The groups of tokens of which each row of the result is made, the first one the odd token.
  private func groups(_ keys: [[Double]]) -> [[Int]] {
    let headWidth = extents.imageWidth / extents.imageHeads
    let means = keys.map { row in
      var mean = [Double](repeating: 0, count: headWidth)
      for k in row.indices { mean[k % headWidth] += row[k] / Double(extents.imageHeads) }
      return mean
    }
    func cosine(_ a: Int, _ b: Int) -> Double {
      let (x, y) = (means[a][...], means[b][...])
      return product(x, y) / (product(x, x) * product(y, y)).squareRoot()
    }
    let odds = Array(stride(from: 1, to: keys.count, by: 2))
    let choices = stride(from: 2, to: keys.count, by: 2).map { token in
      (token: token, partner: odds.max { cosine(token, $0) < cosine(token, $1) } ?? 1)
    }
    let going = choices.sorted { cosine($0.token, $0.partner) > cosine($1.token, $1.partner) }
      .prefix(min(tokensPerLayer, (keys.count - 1) / 2))
    let evens = stride(from: 0, to: keys.count, by: 2).filter { token in
      !going.contains { $0.token == token }
    }
    return evens.map { [$0] }
      + odds.map { odd in [odd] + going.filter { $0.partner == odd }.map(\.token) }
  }

  /// The normalized embedding of one image.
  func embedding(_ pixels: [Double]) -> [Double] {
    let table = vector("image.position_embedding")
    let width = extents.imageWidth
    var x = [vector("image.class_embedding")] + linear("image.patch_embedding", patches(pixels))
    for row in x.indices { for k in 0..<width { x[row][k] += table[row * width + k] } }
    x = norm("image.pre_norm", x)
    var sizes = [Double](repeating: 1, count: x.count)
    for layer in 0..<extents.imageLayers {
      let name = "image.layers.\(layer)"
      let normed = norm(name + ".norm1", x)
      let keys = linear(name + ".attention.key", normed)
      let mixed = attention(
        linear(name + ".attention.query", normed), keys,
        linear(name + ".attention.value", normed), sizes)
      x = added(x, linear(name + ".attention.output", mixed))
      let groups = groups(keys)
      let totals = groups.map { $0.reduce(0) { $0 + sizes[$1] } }
      var merged: [[Double]] = []
      for (group, total) in zip(groups, totals) {
        var row = [Double](repeating: 0, count: width)
        for token in group {
          for k in 0..<width { row[k] += sizes[token] * x[token][k] / total }
        }
        merged.append(row)
      }
      (x, sizes) = (merged, totals)
      let hidden = linear(name + ".mlp.fc1", norm(name + ".norm2", x)).map { row in
        row.map { $0 / (1 + exp(-1.702 * $0)) }
      }
      x = added(x, linear(name + ".mlp.fc2", hidden))
    }
    let embedding = linear("image.projection", norm("image.post_norm", [x[0]]))[0]
    let length = embedding.reduce(0) { $0 + $1 * $1 }.squareRoot()
    return embedding.map { $0 / length }
  }
}
