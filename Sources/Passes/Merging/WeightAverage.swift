import GraphIR
import TensorCore

extension Merging {
  /// The first of `graphs` with the mean of all in place of every float parameter, the logarithm
  /// of the logit scale among them.
  ///
  /// Copies of one model give that model, bit for bit.
  ///
  /// - Parameters:
  ///   - graphs: graphs of one architecture, as ``check(_:allowsMasks:)`` finds them.
  ///   - weights: how much each counts, not negative, with a positive sum; all the same when nil.
  /// - Returns: The merged graph, with the facts and the provenance of the first.
  /// - Throws: ``PassError`` when the weights are not such.
  /// - Source: Wortsman et al., "Model soups", ICML 2022, arXiv:2203.05482.
  package static func average(
    _ graphs: [Graph], weights: [Double]? = nil
  ) throws(PassError) -> Graph {
    let shares = try shares(of: graphs.count, weights)
    var result = graphs[0]
    for value in result.parameterValues {
      guard var parameter = result.parameter(value), parameter.tensor.dtype == .float32 else {
        continue
      }
      let others = graphs.dropFirst().compactMap {
        $0.parameter(named: result.name(of: value))?.tensor
      }
      parameter.tensor = mean(parameter.tensor, others, Array(shares.dropFirst()))
      do { try result.setParameter(value, parameter) } catch { throw .graph(pass: name, error) }
    }
    return result
  }

  /// `weights` divided by their sum.
  private static func shares(of count: Int, _ weights: [Double]?) throws(PassError) -> [Double] {
    precondition(count > 0, "no graph")
    let weights = weights ?? [Double](repeating: 1, count: count)
    let text = weights.map { "\($0)" }.joined(separator: ",")
    guard weights.count == count else {
      throw .option(
        name: "--weights", expected: "a number for each of the \(count) models", found: text)
    }
    let sum = weights.reduce(0, +)
    guard weights.allSatisfy({ $0 >= 0 }), sum > 0, sum.isFinite else {
      throw .option(
        name: "--weights", expected: "numbers of zero or more, not all of them zero", found: text)
    }
    return weights.map { $0 / sum }
  }

  /// `first` with the shares of its differences to `others`: exact where there is no difference.
  private static func mean(_ first: Tensor, _ others: [Tensor], _ shares: [Double]) -> Tensor {
    var sums = first.elements(of: Float.self).map { Double($0) }
    first.withElements(of: Float.self) { own in
      for (other, share) in zip(others, shares) {
        other.withElements(of: Float.self) { theirs in
          for index in own.indices {
            sums[index] += share * (Double(theirs[index]) - Double(own[index]))
          }
        }
      }
    }
    return Tensor(shape: first.shape, sums.map { Float($0) })
  }
}
