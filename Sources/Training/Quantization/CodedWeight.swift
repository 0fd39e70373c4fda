import GraphIR
import Operators
import TensorCore

/// A weight of a student that is trained as float32 numbers and used as codes.
struct CodedWeight {
  let name: String
  let shape: [Int]
  /// How it is rounded.
  let op: FakeQuantizeWeight
  /// The parameter that holds its scales in the graph of training.
  var scalesName: String { "\(name).scales" }

  /// The numbers with which training starts: those of `origin`, each moved into the cell of its code,
  /// so that the student stays what it is.
  ///
  /// Without them, all weights would stand in the middle of their cells, half a step from changing
  /// anything.
  ///
  /// - Parameters:
  ///   - parameter: the student's.
  ///   - origin: float32 numbers of the same extents, of which the codes may have been made; nil for
  ///     the middles.
  /// - Returns: Float32 of the same extents.
  static func start(_ parameter: Parameter, from origin: Tensor?) -> Tensor {
    let middles = parameter.materialized
    guard let quantization = parameter.quantization, let origin, origin.dtype == .float32,
      origin.shape == middles.shape
    else { return middles }
    let scales = quantization.scales.elements(of: Float.self)
    let lowest = Float(quantization.smallestCode)
    let highest = Float(quantization.largestCode)
    return Tensor(shape: middles.shape, of: Float.self) { target in
      middles.withElements(of: Float.self) { middles in
        origin.withElements(of: Float.self) { origin in
          quantization.forEachRun(of: parameter.tensor.shape) { elements, index in
            let scale = scales[index]
            for element in elements {
              let code = (middles[element] / scale).rounded(.toNearestOrEven)
              let low = code <= lowest ? -Float.infinity : code - 0.499
              let high = code >= highest ? Float.infinity : code + 0.499
              let place = origin[element] / scale
              target[element] =
                place.isFinite ? min(max(place, low), high) * scale : middles[element]
            }
          }
        }
      }
      parameter.mask?.withElements(of: UInt8.self) { mask in
        target.clear { mask[$0] == 0 }
      }
    }
  }

  /// The codes of `weight` with scales that were `scales` before it changed.
  func quantized(
    _ weight: Tensor, scales: Tensor, refits: Bool, threadCount: Int
  ) -> (codes: Tensor, quantization: WeightQuantization) {
    let fitted = Tensor(shape: scales.shape, of: Float.self) { target in
      scales.withElements(of: Float.self) { _ = target.update(fromContentsOf: $0) }
      guard refits else { return }
      weight.withElements(of: Float.self) { weight in
        op.fitScales(target, to: weight, shape: shape, threadCount: threadCount)
      }
    }
    let quantization = WeightQuantization(
      bitCount: op.bitCount, grid: op.grid, groupSize: op.groupSize, scales: fitted)
    return (quantization.codes(of: weight, threadCount: threadCount), quantization)
  }
}

/// An activation of a student that is rounded to codes.
struct CodedActivation {
  /// The node that rounds it.
  let name: String
  let parameters: ActivationQuantization
  /// The parameter that holds the averaged step in the graph of training.
  var scaleName: String { "\(name).scale" }
  /// The value that holds the step for a batch.
  var batchScaleName: String { "\(name).scale.batch" }
}
