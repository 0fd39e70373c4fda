import GraphIR
import Operators
import TensorCore
import Training

/// A student that learns which of its heads, neurons, channels and layers it can do without.
///
/// Masks are drawn anew in every step, and a price on the expected number of parameters closes them
/// as the target of the ramp asks. What is left at the end is made physically smaller. A student
/// that was made so can be masked again: large reductions take several stages.
///
/// - Source: Wu et al., "TinyCLIP: CLIP Distillation via Affinity Mimicking and Weight Inheritance",
///   ICCV 2023, arXiv:2309.12314, section 3.2.
package struct MaskedForm: TrainedForm {
  /// The name in errors.
  package static let name = "inherit-automatic"

  /// The choices.
  package struct Options: Codable, Sendable {
    /// The share of the towers' parameters, tables that are looked up aside, that stays.
    package var keep: Double
    /// What is masked.
    package var kinds: [MaskKind]
    /// Over how many steps the target rises from ``startSparsity``.
    package var rampSteps: Int
    /// The share of parameters that is priced as gone at the first step.
    package var startSparsity: Double
    /// The masks' parameters at the first step; 10 is open almost surely.
    package var initialLogit: Double
    /// The learning rate of masks, and that with which multipliers climb.
    package var rate: Double

    /// Names the choices.
    package init(
      keep: Double, kinds: [MaskKind] = [.heads, .neurons, .width], rampSteps: Int = 1000,
      startSparsity: Double = 0, initialLogit: Double = 10,
      rate: Double = MaskedForm.rate
    ) {
      self.keep = keep
      self.kinds = kinds
      self.rampSteps = rampSteps
      self.startSparsity = startSparsity
      self.initialLogit = initialLogit
      self.rate = rate
    }

    /// The choices for a run of `steps` steps.
    ///
    /// A parameter moves by at most a learning rate a step, so that in a short run masks start
    /// nearer to where they close and learn faster; from some thousand steps on the paper's constants
    /// hold.
    package init(keep: Double, steps: Int) {
      let ramp = max(1, steps * 2 / 3)
      self.init(
        keep: keep, rampSteps: ramp, initialLogit: steps < 1500 ? 3 : 10,
        rate: max(MaskedForm.rate, 12 / Double(ramp)))
    }
  }

  /// The paper's learning rate of masks; multipliers climb with it.
  package static let rate = 0.02
  /// The multipliers at the first step.
  package static let initialMultiplier: Float = 10

  /// The choices.
  package let options: Options
  /// The places of the masks.
  package let plan: MaskPlan
  /// The student with masks; the expected sparsity is its value `mask.sparsity`.
  package let graph: Graph
  /// Every float32 parameter of the student, a logit scale included.
  package let weights: [String]
  private let student: Graph
  /// The parameters of the student's towers, tables that are looked up aside.
  private let total: Int

  /// Masks `student`.
  ///
  /// - Throws: ``PassError`` for options out of range or out of reach and for a student that is
  ///   quantized or built in a way that masks do not fit.
  package init(_ student: Graph, options: Options) throws(PassError) {
    try Self.check(options)
    let isQuantized = student.parameterValues.contains {
      student.parameter($0)?.quantization != nil
    }
    guard !isQuantized, !student.nodes.contains(where: { $0.op is FakeQuantize }) else {
      throw .unsuitable(pass: Self.name, "the model is quantized: distil first, quantize then")
    }
    let total = student.parameterCount(of: Tower.allCases)
    do throws(GraphError) {
      let plan = try MaskPlan(student, learning: Set(options.kinds))
      guard !plan.learned.isEmpty else {
        throw .invariant(node: "the model", "has nothing that masks could close")
      }
      graph = try Self.masking(student, plan, options, total)
      self.plan = plan
    } catch {
      throw .graph(pass: Self.name, error)
    }
    self.options = options
    self.student = student
    self.total = total
    weights = student.parameterValues.filter { student.tensorType(of: $0).dtype == .float32 }
      .map { student.name(of: $0) }
    let least = plan.leastParameterCount / Double(max(total, 1))
    guard options.keep >= least else {
      throw .option(
        name: "keep", expected: "at least \((least * 1000).rounded(.up) / 1000), what masks leave",
        found: "\(options.keep)")
    }
  }

  /// The parameters of masks, which descend, and of both multipliers, which climb.
  package var controls: [(name: String, rate: Double)] {
    plan.learned.map { (Self.parameterName(plan.masks[$0]), options.rate) }
      + Self.multipliers.map { ($0, -options.rate) }
  }

  /// The expected share of parameters that is gone.
  package var shown: [(label: String, value: String)] { [("sparsity", Self.sparsity)] }

  /// Adds `lambda1 * gap + lambda2 * gap²` for what the expected sparsity is short of the target.
  package func penalty(_ builder: inout GraphBuilder) throws(GraphError) -> Value? {
    func value(_ name: String) throws(GraphError) -> Value {
      guard let value = builder.graph.value(named: name) else { throw .unknownName(name) }
      return value
    }
    let missing = try builder.difference(try value(Self.target), try value(Self.sparsity))
    let gap = try builder.add(Clamp(0), missing)
    let linear = try builder.product(try value(Self.multipliers[0]), gap)
    let square = try builder.product(gap, gap)
    return try builder.sum(
      linear, try builder.product(try value(Self.multipliers[1]), square))
  }

  /// Noise for every mask, and the target of the step.
  package func inputs(atStep step: Int, seed: UInt64) -> [String: Tensor] {
    var inputs = [Self.target: Tensor(scalar: Float(targetSparsity(atStep: step)))]
    for index in plan.learned {
      let mask = plan.masks[index]
      inputs[Self.noiseName(mask)] = Tensor(
        shape: [mask.count],
        HardConcrete.noise(mask.count, seed: seed, step: step, stream: index))
    }
    return inputs
  }

  /// The share of parameters that is priced as gone at `step`.
  package func targetSparsity(atStep step: Int) -> Double {
    let part = min(1, Double(step) / Double(options.rampSteps))
    return options.startSparsity + (1 - options.keep - options.startSparsity) * part
  }

  /// Keeps masks within ``HardConcrete/bounds``, multipliers from falling below zero, and weights
  /// that were pruned one by one at zero.
  package func constrain(weights: ParameterBlock, controls: ParameterBlock) {
    for index in plan.learned {
      guard let loga = controls[Self.parameterName(plan.masks[index])] else { continue }
      for element in loga.indices {
        loga[element] = min(
          max(loga[element], HardConcrete.bounds.lowerBound), HardConcrete.bounds.upperBound)
      }
    }
    for name in Self.multipliers {
      guard let multiplier = controls[name] else { continue }
      for element in multiplier.indices { multiplier[element] = max(multiplier[element], 0) }
    }
    for value in student.parameterValues {
      guard let mask = student.parameter(value)?.mask, let target = weights[student.name(of: value)]
      else { continue }
      mask.withElements(of: UInt8.self) { mask in
        for element in target.indices where mask[element] == 0 { target[element] = 0 }
      }
    }
  }

  /// The student without what the masks close, of the extents that the options ask for.
  package func result(
    weights: ParameterBlock, controls: ParameterBlock
  ) throws(GraphError) -> Graph {
    var trained = student
    for entry in weights.entries {
      // What the losses train beside the student is not part of it.
      guard let value = trained.value(named: entry.name), var parameter = trained.parameter(value)
      else { continue }
      parameter.tensor = weights.tensor(of: entry)
      try trained.setParameter(value, parameter)
    }
    var loga: [[Float]] = []
    for mask in plan.masks {
      guard mask.isLearned else {
        loga.append([])
        continue
      }
      let name = Self.parameterName(mask)
      guard let elements = controls[name] else { throw .unknownName(name) }
      loga.append(Array(elements))
    }
    let target = Int((options.keep * Double(total)).rounded())
    return try plan.compacting(trained, masks: plan.finalMasks(of: loga, keeping: target))
  }
}

extension MaskedForm {
  /// The expected share of parameters that is gone.
  private static let sparsity = "mask.sparsity"
  /// The share of parameters that shall be gone.
  private static let target = "mask.target"
  private static let multipliers = ["mask.lambda1", "mask.lambda2"]

  private static func parameterName(_ mask: MaskPlan.Mask) -> String { "mask.\(mask.name)" }

  private static func noiseName(_ mask: MaskPlan.Mask) -> String { "mask.\(mask.name).noise" }

  private static func check(_ options: Options) throws(PassError) {
    guard options.keep > 0, options.keep <= 1 else {
      throw .option(name: "keep", expected: "above 0 and at most 1", found: "\(options.keep)")
    }
    guard options.rampSteps > 0 else {
      throw .option(name: "ramp", expected: "positive", found: "\(options.rampSteps)")
    }
    guard (0..<1).contains(options.startSparsity) else {
      throw .option(
        name: "start", expected: "at least 0 and below 1", found: "\(options.startSparsity)")
    }
    guard options.initialLogit.isFinite else {
      throw .option(name: "logit", expected: "finite", found: "\(options.initialLogit)")
    }
  }

  private static func masking(
    _ student: Graph, _ plan: MaskPlan, _ options: Options, _ total: Int
  ) throws(GraphError) -> Graph {
    var graph = try plan.masking(student) { builder throws(GraphError) in
      var open: [Value?] = []
      var counts: [SizeFactor] = []
      for mask in plan.masks {
        guard mask.isLearned else {
          open.append(nil)
          counts.append(.number(Double(mask.count)))
          continue
        }
        let initial = [Float](repeating: Float(options.initialLogit), count: mask.count)
        let loga = try builder.graph.addParameter(
          parameterName(mask), Parameter(Tensor(shape: [mask.count], initial)))
        let noise = try builder.graph.addInput(
          noiseName(mask), TensorType(.float32, shape: [mask.count]))
        open.append(try builder.hardConcrete(loga, noise: noise))
        counts.append(.value(try builder.expectedCount(loga)))
      }
      let left = try plan.size.expression(counts, over: Double(total), &builder)
      let gone = try builder.scaled(left, by: -1)
      _ = try builder.graph.add(sparsity, Offset(by: 1), gone)
      return open
    }
    _ = try graph.addInput(target, TensorType(.float32, shape: []))
    for name in multipliers {
      _ = try graph.addParameter(name, Parameter(Tensor(scalar: initialMultiplier)))
    }
    return graph
  }
}
