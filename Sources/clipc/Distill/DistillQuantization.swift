import ArgumentParser
import GraphIR
import Operators
import Training

/// How a student of integer codes is trained, and in how many bits gradients are passed on.
struct DistillQuantization: ParsableArguments {
  /// The estimators by their short names.
  enum Estimator: String, ExpressibleByArgument, CaseIterable {
    case mad
    case pwl
    case ste
    case mph
  }

  @Option(
    help: """
      octav or fixed: whether the ranges of a quantized student follow weights and batches at every \
      step, or stay. By default octav.
      """)
  var clipUpdate: QuantizationTraining.ClipUpdate?
  @Option(
    help: """
      mad, pwl, ste or mph: what clipped weights and activations of a quantized student learn. By \
      default mph: mad for weights, pwl for activations.
      """)
  var estimator: Estimator?
  @Option(
    help: """
      Bits an element, 1 to 8, of the gradients that linears pass on, rounded at random; float32 by \
      default.
      """)
  var gradientBits: Int?

  func validate() throws {
    guard (1...8).contains(gradientBits ?? 8) else {
      throw ValidationError("--gradient-bits must lie in 1...8, found \(gradientBits ?? 0)")
    }
  }

  /// Whether choices were made that only codes ask for.
  var asksForCodes: Bool { clipUpdate != nil || estimator != nil }

  /// The choices for `student`.
  ///
  /// - Throws: ``Failure`` where it has no codes and choices for codes were made.
  func options(for student: Graph) throws -> QuantizationTraining {
    var options = QuantizationTraining()
    guard asksForCodes else { return options }
    let hasCodes =
      student.parameterValues.contains { student.parameter($0)?.quantization != nil }
      || student.nodes.contains { $0.op is FakeQuantize }
    guard hasCodes else {
      throw Failure(
        .usage,
        "--clip-update and --estimator go with a student of integer codes; make one with `clipc "
          + "quantize` and give it as --student")
    }
    options.clipUpdate = clipUpdate ?? .octav
    switch estimator ?? .mph {
    case .mph: break
    case .mad: options.setEstimator(.magnitudeAware)
    case .pwl: options.setEstimator(.piecewiseLinear)
    case .ste: options.setEstimator(.straightThrough)
    }
    return options
  }

  /// What was given, by name in words.
  var texts: [String: String] {
    var texts: [String: String] = [:]
    texts["clip_update"] = clipUpdate?.rawValue
    texts["estimator"] = estimator?.rawValue
    texts["gradient_bits"] = gradientBits.map { String($0) }
    return texts
  }
}

extension QuantizationTraining {
  /// Takes `estimator` for weights and activations.
  fileprivate mutating func setEstimator(_ estimator: GradientEstimator) {
    weightEstimator = estimator
    activationEstimator = estimator
  }
}

extension QuantizationTraining.ClipUpdate: ExpressibleByArgument {}
