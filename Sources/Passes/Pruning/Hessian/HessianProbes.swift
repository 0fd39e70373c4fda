import Execution
import GraphIR
import Operators
import TensorCore
import Training

/// Random directions, what a loss's second derivatives make of them, and sums over units of both.
struct HessianProbes {
  /// Two tensors for a parameter, whose elementwise product has the diagonal of the Hessian as its
  /// expectation.
  typealias Pair = (left: Tensor, right: Tensor)

  private enum Work {
    case product(HessianProduct)
    case factor(FactorPullback)
  }

  /// The parameters that are probed, by name.
  let parameters: [(name: String, tensor: Tensor)]
  private let work: Work
  private let seed: UInt64

  /// Prepares probes of `kind` for `parameters` of `loss`.
  init(
    _ kind: HessianTraces.Probe, of loss: PairLoss, parameters: [(name: String, tensor: Tensor)],
    seed: UInt64, threadCount: Int
  ) throws(PassError) {
    self.parameters = parameters
    self.seed = seed
    let values = parameters.compactMap { loss.graph.value(named: $0.name) }
    work =
      switch kind {
      case .product:
        .product(
          try HessianProduct(
            of: loss.loss, in: loss.graph, withRespectTo: values, threadCount: threadCount))
      case .factor:
        .factor(try FactorPullback(of: loss, withRespectTo: values, threadCount: threadCount))
      }
  }

  /// What probe `index` gives on `batch`: a pair of tensors for each parameter.
  func pairs(_ index: Int, on batch: PairBatch) throws(PassError) -> [Pair] {
    switch work {
    case .product(let product):
      let directions = parameters.map { signs(shape: $0.tensor.shape, index, $0.name) }
      return Array(zip(directions, try product(directions, batch.inputs)))
    case .factor(let pull):
      var random = generator(index, "logits")
      let made = try pull(batch, signs: &random)
      return zip(made, parameters).map { gradient, parameter in
        let whole = gradient ?? Tensor(shape: parameter.tensor.shape, of: Float.self) { _ in }
        return (whole, whole)
      }
    }
  }

  /// The sequence that the seed, a probe's index and a name determine.
  private func generator(_ index: Int, _ name: String) -> SplitMix64 {
    var hash: UInt64 = 0xCBF2_9CE4_8422_2325
    for byte in name.utf8 { hash = (hash ^ UInt64(byte)) &* 0x100_0000_01B3 }
    var start = SplitMix64(seed: hash ^ (seed &* 0x9E37_79B9_7F4A_7C15))
    return SplitMix64(seed: start.next() ^ (UInt64(index) &* 0xD1B5_4A32_D192_ED03))
  }

  private func signs(shape: [Int], _ index: Int, _ name: String) -> Tensor {
    var random = generator(index, name)
    return Tensor(shape: shape, of: Float.self) { target in
      var bits: UInt64 = 0
      for place in target.indices {
        if place % 64 == 0 { bits = random.next() }
        target[place] = bits & 1 == 0 ? 1 : -1
        bits >>= 1
      }
    }
  }

  /// Adds the products of `pair`'s elements to the sums of the units of `axis`.
  static func add(_ pair: Pair, axis: Int, unit: Int, to sums: inout [Double]) {
    let shape = pair.left.shape
    let outer = shape[..<axis].reduce(1, *)
    let inner = shape[(axis + 1)...].reduce(1, *) * unit
    pair.left.withElements(of: Float.self) { left in
      pair.right.withElements(of: Float.self) { right in
        sums.withUnsafeMutableBufferPointer { sums in
          for block in 0..<outer {
            for index in sums.indices {
              let start = (block * sums.count + index) * inner
              var sum = 0.0
              for place in start..<(start + inner) {
                sum += Double(left[place]) * Double(right[place])
              }
              sums[index] += sum
            }
          }
        }
      }
    }
  }
}

/// Gradients of random combinations of a loss's logits.
private struct FactorPullback {
  private static let seedName = "pair_seed"
  private let names: [String?]
  private let executor: Executor

  init(
    of loss: PairLoss, withRespectTo values: [Value], threadCount: Int
  ) throws(PassError) {
    var graph = loss.graph
    var names: [String?] = []
    do throws(GraphError) {
      let seed = try graph.addInput(Self.seedName, graph.tensorType(of: loss.logits))
      let made = try graph.addGradients(of: [(loss.logits, seed)], withRespectTo: values)
      names = made.map { value in value.map { graph.name(of: $0) } }
    } catch {
      throw .graph(pass: HessianImportance.passName, error)
    }
    self.names = names
    do throws(ExecutionError) {
      executor = try Executor(
        graph, outputs: Set(names.compactMap(\.self)).sorted(), threadCount: threadCount)
    } catch {
      throw .calibration(error)
    }
  }

  func callAsFunction(
    _ batch: PairBatch, signs random: inout SplitMix64
  ) throws(PassError) -> [Tensor?] {
    var inputs = batch.inputs
    inputs[Self.seedName] = batch.factor(signs: &random)
    do throws(ExecutionError) {
      let results = try executor.run(inputs)
      return names.map { name in name.flatMap { results[$0] } }
    } catch {
      throw .calibration(error)
    }
  }
}
