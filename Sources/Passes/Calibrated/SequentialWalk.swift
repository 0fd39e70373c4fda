import GraphIR
import Operators
import TensorCore

/// A linear layer as a walk finds it, with what it reads on the calibration data.
package struct CalibratedLayer {
  /// The name of the node.
  package let name: String
  /// The name of the weight.
  package let weightName: String
  /// The weight, `[out, in]`, not changed yet.
  package let weight: Parameter
  /// The layer's own bias, `[out]`.
  package let bias: Parameter?
  /// The moments of the inputs.
  package let statistics: InputStatistics

  /// A layer whose inputs were counted in `statistics`.
  package init(
    name: String, weightName: String, weight: Parameter, bias: Parameter?,
    statistics: InputStatistics
  ) {
    self.name = name
    self.weightName = weightName
    self.weight = weight
    self.bias = bias
    self.statistics = statistics
  }
}

/// What becomes of a layer.
package struct LayerChange {
  /// The weight, of the same shape.
  package var weight: Parameter
  /// The bias, where it changes.
  package var bias: Parameter?

  /// A change to `weight` and, unless nil, to `bias`.
  package init(weight: Parameter, bias: Parameter? = nil) {
    self.weight = weight
    self.bias = bias
  }
}

/// Visits linear layers in order, each with the moments of its inputs on the calibration data.
///
/// The towers are cut where all flows through one value, at the residual stream. The values at the
/// current cut are kept for every batch, samples x tokens x width floats, so that each part of a
/// tower runs as often as its layers need it and nothing runs twice from the start; the source of
/// batches is asked once. With ``Options/isSequential`` a layer sees what the changed layers before
/// it make, as the sequential methods of layer-wise compression define.
package struct SequentialWalk {
  /// How the walk goes.
  package struct Options: Codable, Sendable, Equatable {
    /// Whether layers see what the changed layers before them make, or the original inputs.
    package var isSequential = true
    /// Whether layers that stand between the same two cuts see each other's changes.
    package var refreshesWithinBlock = true
    /// Whether the moments tell how far inputs have come from the original ones.
    package var followsOriginal = false
    /// Whether rows that the embedding does not depend on are left out of the moments.
    package var selectsTokensEarly = true

    /// The defaults.
    package init() {}
  }

  /// What of the inputs is gathered for the layers.
  package struct Gathering: Sendable {
    /// Whether moments are; without, the statistics hold nothing.
    package var moments = true
    /// So many rows of each input at most.
    package var rowCount = 0
    /// The seed for the choice of rows.
    package var seed: UInt64 = 0

    /// Moments alone.
    package init() {}
  }

  /// Computes what becomes of a layer; nil when it stays.
  package typealias Visitor = (CalibratedLayer) throws(PassError) -> LayerChange?

  /// Computes what becomes of the layers that read one value.
  package typealias GroupVisitor = (LayerGroup) throws(PassError) -> GroupChange

  /// The pass in whose name errors and progress speak.
  package let pass: String
  /// How the walk goes.
  package let options: Options

  /// Prepares a walk.
  package init(pass: String, options: Options = Options()) {
    self.pass = pass
    self.options = options
  }

  /// The graph with what `visitor` makes of each of `weights`, in the order of the graph.
  ///
  /// - Throws: ``PassError`` when a weight is not that of one linear layer, data are missing, a run
  ///   fails or an input is not finite.
  package func run(
    on graph: Graph, weights: [Value], in context: borrowing PassContext, _ visitor: Visitor
  ) throws(PassError) -> Graph {
    try run(on: graph, original: nil, weights: weights, gathering: Gathering(), in: context) {
      group throws(PassError) in
      var changes: [LayerChange?] = []
      for layer in group.layers { changes.append(try visitor(layer)) }
      return GroupChange(layers: changes)
    }
  }

  /// The graph with what `visitor` makes of the layers of `weights`, a group that reads the same
  /// value after the other, in the order of the graph.
  ///
  /// - Parameters:
  ///   - graph: what changes; it may round activations by ``FakeQuantize``.
  ///   - original: what layers are compared with where the options or rows ask for that: the same
  ///     model but for the roundings and its weights; nil for `graph` itself.
  ///   - weights: the weights of the layers, of `graph`.
  ///   - gathering: what the visitor needs of the inputs.
  ///   - context: lends calibration data and threads.
  ///   - visitor: what becomes of a group.
  /// - Returns: The changed graph.
  /// - Throws: ``PassError`` when a weight is not that of one linear layer, data are missing, a run
  ///   fails or an input is not finite.
  package func run(
    on graph: Graph, original: Graph?, weights: [Value], gathering: Gathering,
    in context: borrowing PassContext, groups visitor: GroupVisitor
  ) throws(PassError) -> Graph {
    guard let source = context.calibration else { throw .needsData(pass: pass) }
    let form = try running(graph)
    let names = Set(weights.map { graph.name(of: $0) })
    let layers = try form.linearLayers(
      of: form.parameterValues.filter { names.contains(form.name(of: $0)) }, pass: pass)
    let run = WalkRun(
      pass: pass, options: options, gathering: gathering, result: graph, form: form,
      original: try original.map(running), total: layers.count,
      threadCount: context.threadCount, report: context.report)
    var streams = try run.streams(of: layers)
    try run.start(&streams, from: source)
    for index in streams.indices {
      try run.go(through: &streams[index], visitor)
      streams[index].batches = []
      streams[index].originals = []
    }
    do { return try run.result.changing(codes: run.codes) } catch {
      throw .graph(pass: pass, error)
    }
  }

  /// The form of `graph` that runs.
  private func running(_ graph: Graph) throws(PassError) -> Graph {
    do { return options.selectsTokensEarly ? try graph.selectingEarly() : graph } catch {
      throw .graph(pass: pass, error)
    }
  }
}

extension Graph {
  /// The graph whose roundings of activations, by the name of what they make, have the codes given.
  func changing(
    codes: [String: ActivationQuantization]
  ) throws(GraphError) -> Graph {
    guard nodes.contains(where: { codes[$0.name] != nil && $0.op is FakeQuantize }) else {
      return self
    }
    return try rewritten { node, rewriter throws(GraphError) in
      guard let parameters = codes[node.name], node.op is FakeQuantize else {
        return try rewriter.copy(node)
      }
      let image = try rewriter.result.addNode(
        node.name, FakeQuantize(parameters: parameters),
        [try rewriter.image(of: node.inputs[0])])[0]
      rewriter.setImage(of: node.outputs[0], to: image)
    }
  }
}

/// The values at a cut of one tower and the parts that are still ahead.
struct CalibrationStream {
  /// A part of a tower with the cut before it, nil for the inputs of the graph.
  struct Part {
    let start: Value?
    let layers: [LinearLayer]
  }

  let output: Value
  let parts: [Part]
  /// What the rest of the tower reads, by name, for each batch.
  var batches: [[String: Tensor]] = []
  /// The same as the original graph computes it, where that is followed.
  var originals: [[String: Tensor]] = []
}
