import GraphIR
import Operators
import TensorCore

/// A student whose weights are trained as they are: masks stay, codes stay codes of as many bits.
///
/// Pruned elements get no gradient and stay zero. Quantized weights are trained as float32 numbers
/// that the graph rounds to their grid at every use; rounded activations are rounded while training.
/// Unless ranges are fixed, the scales of trained weights are those of least expected error at every
/// step, and so are the steps of activations for each batch, of which the written model gets the
/// moving average. The losses that keep experts equally busy join the objective. One form serves one
/// trainer.
///
/// - Source: Sakr et al., "Optimal Clipping and Magnitude-aware Differentiation for Improved
///   Quantization-aware Training", ICML 2022, arXiv:2206.06501.
package final class WeightForm: TrainedForm {
  /// What an averaged step keeps of itself at each step of training, once there are many.
  package static let averageDecay = 0.99

  package let graph: Graph
  package let weights: [String]
  /// What decides how codes are trained.
  package let quantization: QuantizationTraining
  private let source: Graph
  private let isMasked: [String]
  private let coded: [CodedWeight]
  private let activations: [CodedActivation]
  private let threadCount: Int
  private var routed: RoutedLayers
  private var step = 0
  private var batchScales: [Float] = []

  /// Trains the parameters of `source` that `isTrained` names.
  ///
  /// - Parameters:
  ///   - source: the student.
  ///   - quantization: how codes are trained, where there are some.
  ///   - routing: what keeps experts equally busy, where there are some.
  ///   - origin: a model whose float32 weights of the same name and extents say where in the cells of
  ///     their codes the student's weights start; nil for the middles.
  ///   - threadCount: how many threads fit scales; it has no influence on the result.
  ///   - isTrained: whether a parameter changes.
  /// - Throws: ``GraphError`` when a name that training adds is taken.
  package init(
    _ source: Graph, quantization: QuantizationTraining = QuantizationTraining(),
    routing: RoutingTraining = RoutingTraining(),
    origin: Graph? = nil, threadCount: Int = 1,
    isTrained: (String) -> Bool = { $0 != "logit_scale" }
  ) throws(GraphError) {
    self.source = source
    self.quantization = quantization
    self.threadCount = threadCount
    routed = RoutedLayers(source, routing)
    var builder = StudentBuilder(quantization)
    // Steps of activations are those of the rows that are read.
    let rounds = source.nodes.contains { $0.op is FakeQuantize }
    try builder.add(
      rounds ? try source.selectingEarly() : source, origin: origin, isTrained: isTrained)
    let experts = source.expertParameterNames
    graph = try routing.applied(to: builder.graph) { experts.contains($0) }
    weights = builder.trained
    isMasked = builder.masked
    coded = builder.coded
    activations = builder.activations
  }

  package func inputs(atStep step: Int, seed: UInt64) -> [String: Tensor] {
    routed.options.inputs(atStep: step, seed: seed)
  }

  private var refits: Bool { quantization.clipUpdate == .octav }

  package var controls: [(name: String, rate: Double)] {
    guard refits else { return [] }
    return coded.map { ($0.scalesName, 0) } + activations.map { ($0.scaleName, 0) }
  }

  package func penalty(_ builder: inout GraphBuilder) throws(GraphError) -> Value? {
    try routed.penalty(&builder)
  }

  package var penaltyIsOfBatch: Bool { true }

  package var measures: [(label: String, value: Double)] { routed.measures }

  private var observedScales: [String] { refits ? activations.map(\.batchScaleName) : [] }

  package var observed: [String] { observedScales + routed.observed }

  package func begin(_ context: StepContext) {
    step = context.step
    guard refits else { return }
    for weight in coded {
      guard let elements = context.weights[weight.name],
        let scales = context.controls[weight.scalesName]
      else { continue }
      weight.op.fitScales(
        scales, to: UnsafeBufferPointer(elements), shape: weight.shape, threadCount: threadCount)
    }
  }

  package func observe(_ values: [Float]) {
    batchScales = Array(values.prefix(observedScales.count))
    routed.observe(values.dropFirst(observedScales.count))
  }

  package func prepare(gradients: ParameterBlock) { clearMasked(gradients) }

  package func constrain(weights: ParameterBlock, controls: ParameterBlock) {
    clearMasked(weights)
    let decay = Double(Self.averageDecay)
    // The first values count as much as the average of no more than them should have it.
    var power = 1.0
    for _ in 0..<min(step + 1, 5000) { power *= decay }
    let share = Float((1 - decay) / (1 - power))
    for (activation, scale) in zip(activations, batchScales) {
      guard let average = controls[activation.scaleName], scale.isFinite, scale > 0 else {
        continue
      }
      average[0] += share * (scale - average[0])
    }
  }

  private func clearMasked(_ block: ParameterBlock) {
    for name in isMasked { block.clear(name, whereHiddenBy: source.parameter(named: name)?.mask) }
  }

  package func result(
    weights: ParameterBlock, controls: ParameterBlock
  ) throws(GraphError) -> Graph {
    var graph = source
    let codes = Dictionary(uniqueKeysWithValues: coded.map { ($0.name, $0) })
    for entry in weights.entries {
      guard let value = graph.value(named: entry.name), var parameter = graph.parameter(value)
      else { continue }
      let trained = weights.tensor(of: entry)
      if let weight = codes[entry.name], let old = parameter.quantization {
        let scales = controls.layout[weight.scalesName].map { controls.tensor(of: $0) }
        let (codes, quantization) = weight.quantized(
          trained, scales: scales ?? old.scales, refits: refits, threadCount: threadCount)
        parameter.tensor = codes
        parameter.quantization = quantization
      } else {
        parameter.tensor = trained
      }
      try graph.setParameter(value, parameter)
    }
    guard refits, !activations.isEmpty else { return graph }
    return try graph.replacingScales { name in
      controls["\(name).scale"].map { $0[0] }
    }
  }

  /// What the grids are, so that a state of others is refused.
  private var description: Tensor {
    var words: [Int32] = [refits ? 1 : 0]
    for estimator in [quantization.weightEstimator, quantization.activationEstimator] {
      words.append(Int32(GradientEstimator.allCases.firstIndex(of: estimator) ?? 0))
    }
    for weight in coded {
      words += [
        Int32(weight.op.bitCount), weight.op.grid == .full ? 1 : 0,
        Int32(clamping: weight.op.groupSize ?? 0),
      ]
    }
    for activation in activations {
      let codes = activation.parameters
      words += [Int32(codes.zeroPoint), Int32(codes.lowest), Int32(codes.highest)]
    }
    return Tensor(shape: [words.count], words)
  }

  package var state: [NamedTensor] {
    coded.isEmpty && activations.isEmpty ? [] : [("quantization", description)]
  }

  package func restore(_ state: [NamedTensor]) throws(TrainingStateError) {
    var saved = try SavedTensors(state)
    if let own = self.state.first {
      let found = try saved.take(own.name, .int32, own.tensor.shape)
      guard found == own.tensor else {
        throw .invalid(
          name: own.name, reason: "is that of other codes or other choices of training")
      }
    }
    try saved.finish()
  }
}

extension Graph {
  /// The graph in which activations are rounded with the steps that `scale` gives by node.
  fileprivate func replacingScales(
    _ scale: (String) -> Float?
  ) throws(GraphError) -> Graph {
    try rewritten { node, rewriter throws(GraphError) in
      guard let op = node.op as? FakeQuantize, let step = scale(node.name) else {
        return try rewriter.copy(node)
      }
      let old = op.parameters
      let parameters = ActivationQuantization(
        scale: step, zeroPoint: old.zeroPoint, lowest: old.lowest, highest: old.highest)
      let made = try rewriter.result.add(
        node.name, FakeQuantize(parameters: parameters), try rewriter.image(of: node.inputs[0]))
      rewriter.setImage(of: node.outputs[0], to: made)
    }
  }
}

/// Makes the graph of training from a student.
private struct StudentBuilder {
  let quantization: QuantizationTraining
  var graph = Graph()
  var trained: [String] = []
  var masked: [String] = []
  var coded: [CodedWeight] = []
  var activations: [CodedActivation] = []
  private var images: [Value: Value] = [:]

  init(_ quantization: QuantizationTraining) { self.quantization = quantization }

  mutating func add(
    _ source: Graph, origin: Graph?, isTrained: (String) -> Bool
  ) throws(GraphError) {
    var scales: [(value: Value, op: FakeQuantizeWeight, scales: Value)] = []
    for value in source.values {
      let name = source.name(of: value)
      if source.origin(of: value) == .input {
        images[value] = try graph.addInput(name, source.tensorType(of: value))
      }
      guard let parameter = source.parameter(value) else { continue }
      let start = CodedWeight.start(
        parameter, from: isTrained(name) ? origin?.parameter(named: name)?.tensor : nil)
      images[value] = try graph.addParameter(name, Parameter(start))
      if parameter.mask != nil { masked.append(name) }
      let changes = parameter.type.dtype == .float32 && isTrained(name)
      if changes { trained.append(name) }
      guard let codes = parameter.quantization else { continue }
      let op = FakeQuantizeWeight(codes, estimator: quantization.weightEstimator)
      let weight = CodedWeight(name: name, shape: parameter.tensor.shape, op: op)
      if changes { coded.append(weight) }
      scales.append(
        (value, op, try graph.addParameter(weight.scalesName, Parameter(codes.scales))))
    }
    for (value, op, scales) in scales {
      guard let plain = images[value] else { continue }
      images[value] = try graph.add("\(source.name(of: value)).rounded", op, plain, scales)
    }
    for node in source.nodes { try add(node) }
    for output in source.outputs {
      if let image = images[output.value] { try graph.addOutput(output.name, image) }
    }
  }

  private mutating func add(_ node: Node) throws(GraphError) {
    let inputs = node.inputs.compactMap { images[$0] }
    guard let op = node.op as? FakeQuantize, let input = inputs.first,
      (op.parameters.lowest...op.parameters.highest).contains(op.parameters.zeroPoint)
    else {
      let made = try graph.addNode(node.name, node.op, inputs)
      for (old, new) in zip(node.outputs, made) { images[old] = new }
      return
    }
    let activation = CodedActivation(name: node.name, parameters: op.parameters)
    let rounding = FakeQuantizeActivation(
      op.parameters, estimator: quantization.activationEstimator)
    var scale = try graph.addParameter(
      activation.scaleName, Parameter(Tensor(scalar: op.parameters.scale)))
    if quantization.clipUpdate == .octav {
      scale = try graph.add(
        activation.batchScaleName, OptimalScale(codes: rounding.centeredCodes), input, scale)
    }
    images[node.outputs[0]] = try graph.add(node.name, rounding, input, scale)
    activations.append(activation)
  }
}
