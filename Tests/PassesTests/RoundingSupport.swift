import Execution
import GraphIR
import Operators
import Passes
import TensorCore
import TestSupport

/// The value `output` of `graph` in float64 from the operators' definitions.
func float64(_ graph: Graph, _ inputs: [String: Tensor], _ output: String) throws -> [Double] {
  let results = try Executor(graph, outputs: [output], arithmetic: .float64).run(inputs)
  return results[output]?.elements(of: Double.self) ?? []
}

/// A small model, images and texts to calibrate it on.
struct RoundingSample {
  let graph: Graph
  let source: FixedBatches

  init(seed: UInt64 = 81) throws {
    graph = try RandomCLIP().graph(seed: seed)
    let inputs = (0..<6).map { RandomCLIP().inputs(seed: UInt64($0), items: 8) }
    source = FixedBatches(
      batches: ["pixel_values", "input_ids"].flatMap { name in
        inputs.map { Batch(inputs: $0.filter { $0.key == name }) }
      })
  }

  var context: PassContext {
    PassContext(seed: 1, threadCount: 2, calibration: source)
  }

  /// A quantizer for each weight that meets an activation.
  func quantizers(_ bits: Int, group: Int? = nil) -> [String: WeightQuantizer] {
    let quantizer = WeightQuantizer(bitCount: bits, groupSize: group)
    return Dictionary(
      uniqueKeysWithValues: graph.multipliedWeights.map { (graph.name(of: $0), quantizer) })
  }

  /// The graph whose linear layers read what they read rounded to codes of `bits` bits over -4...4.
  func roundingActivations(_ bits: Int) throws -> Graph {
    let highest = (1 << bits) - 1
    let codes = ActivationQuantization(
      scale: 8 / Float(highest), zeroPoint: UInt8(1 << (bits - 1)), highest: UInt8(highest))
    var made: [Value: Value] = [:]
    return try graph.rewritten { node, rewriter throws(GraphError) in
      guard node.op is Linear else { return try rewriter.copy(node) }
      var inputs: [Value] = []
      for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
      if made[node.inputs[0]] == nil {
        made[node.inputs[0]] = try rewriter.result.add(
          "\(graph.name(of: node.inputs[0])).codes", FakeQuantize(parameters: codes), inputs[0])
      }
      if let known = made[node.inputs[0]] { inputs[0] = known }
      let outputs = try rewriter.result.addNode(node.name, node.op, inputs)
      rewriter.setImage(of: node.outputs[0], to: outputs[0])
    }
  }

  /// What `name` of `graph` is over all calibration data, in float64.
  func values(_ name: String, of graph: Graph) throws -> [Double] {
    let input = name.hasPrefix("image") ? "pixel_values" : "input_ids"
    return try source.batches.filter { $0.inputs[input] != nil }.flatMap {
      try float64(graph, $0.inputs, name)
    }
  }
}
