import GraphIR
import Operators

/// The parameters of towers as a polynomial in how many units of each mask are left.
///
/// A parameter whose axes lose units, inside a branch that may go, has as many elements as the
/// product of what is left of each says.
package struct SizePolynomial: Hashable, Sendable {
  /// By the sorted indices of the masks that a product is of, its factor.
  package private(set) var terms: [[Int]: Int] = [:]

  /// A polynomial that is zero.
  package init() {}

  /// Adds `factor` times the product of the counts of `masks`.
  package mutating func add(_ factor: Int, times masks: [Int]) {
    terms[masks.sorted(), default: 0] += factor
  }

  /// The terms in an order that does not change from run to run, as sums have to have.
  private var ordered: [(masks: [Int], factor: Int)] {
    terms.sorted { $0.key.lexicographicallyPrecedes($1.key) }.map { ($0.key, $0.value) }
  }

  /// The value where mask `i` has `counts[i]` units left, or expects to.
  package func value(_ counts: [Double]) -> Double {
    ordered.reduce(0) { sum, term in
      sum + term.masks.reduce(Double(term.factor)) { $0 * counts[$1] }
    }
  }

  /// Adds the value over `total` to a graph, in Horner's form.
  ///
  /// - Parameters:
  ///   - counts: for each mask a scalar of the graph, or a number that does not change.
  ///   - total: what the result is divided by.
  ///   - builder: the graph.
  /// - Returns: a scalar of the graph.
  /// - Throws: ``GraphError`` when no count is a scalar of the graph.
  func expression(
    _ counts: [SizeFactor], over total: Double, _ builder: inout GraphBuilder
  ) throws(GraphError) -> Value {
    var scaled: [[Int]: Double] = [:]
    for (masks, factor) in ordered {
      var rest: [Int] = []
      var number = Double(factor) / total
      for mask in masks {
        switch counts[mask] {
        case .number(let count): number *= count
        case .value: rest.append(mask)
        }
      }
      scaled[rest, default: 0] += number
    }
    var memory: [[[Int]: Double]: SizeFactor] = [:]
    switch try Self.horner(scaled, counts, &memory, &builder) {
    case .value(let value): return value
    case .number: throw .invariant(node: "mask", "has nothing to learn")
    }
  }

  private static func horner(
    _ terms: [[Int]: Double], _ counts: [SizeFactor],
    _ memory: inout [[[Int]: Double]: SizeFactor], _ builder: inout GraphBuilder
  ) throws(GraphError) -> SizeFactor {
    if let known = memory[terms] { return known }
    guard let first = terms.keys.compactMap(\.first).min(), case .value(let count) = counts[first]
    else { return .number(terms[[]] ?? 0) }
    var inner: [[Int]: Double] = [:]
    var rest: [[Int]: Double] = [:]
    for (masks, factor) in terms {
      if masks.first == first {
        inner[Array(masks.dropFirst())] = factor
      } else {
        rest[masks] = factor
      }
    }
    var product: Value
    switch try horner(inner, counts, &memory, &builder) {
    case .number(let number): product = try builder.scaled(count, by: Float(number))
    case .value(let value): product = try builder.product(count, value)
    }
    switch try horner(rest, counts, &memory, &builder) {
    case .number(let number):
      if number != 0 { product = try builder.add(Offset(by: Float(number)), product) }
    case .value(let value): product = try builder.sum(value, product)
    }
    memory[terms] = .value(product)
    return .value(product)
  }
}

/// A count that a size is a product of.
enum SizeFactor {
  case number(Double)
  case value(Value)
}
