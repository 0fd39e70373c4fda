import GraphIR
import Operators
import TensorCore

extension Graph {
  /// The inputs of `node` that integer kernels would read as codes: all its weights hold codes, or
  /// are among `planned`.
  func integerInputs(of node: Node, planned: Set<Value> = []) -> [Int] {
    activationInputs(of: node) {
      planned.contains($0) || parameter($0)?.quantization != nil
    }
  }

  /// The inputs of `node` that meet its weights, where all of these are such as `isWanted` says.
  func activationInputs(of node: Node, where isWanted: (Value) -> Bool) -> [Int] {
    guard let op = node.op as? any QuantizableOp else { return [] }
    let fits = op.weightInputs.allSatisfy { input in
      input < node.inputs.count && isWanted(node.inputs[input])
    }
    return fits ? op.activationInputs.filter { $0 < node.inputs.count } : []
  }

  /// The graph in which the nodes named by `reads` read, at the inputs given there, values rounded
  /// by the operations given for these.
  func rounding(
    _ reads: [String: [Int]], by operations: [Value: any Op]
  ) throws(GraphError) -> Graph {
    var rounded: [Value: Value] = [:]
    return try rewritten { node, rewriter throws(GraphError) in
      var inputs: [Value] = []
      for input in node.inputs { inputs.append(try rewriter.image(of: input)) }
      for position in reads[node.name] ?? [] {
        let value = node.inputs[position]
        guard let operation = operations[value] else { continue }
        if rounded[value] == nil {
          let suffix = operation is RoundToBFloat16 ? ".rounded" : ".codes"
          var name = self.name(of: value) + suffix
          while self.value(named: name) != nil { name += suffix }
          rounded[value] = try rewriter.result.add(name, operation, inputs[position])
        }
        if let image = rounded[value] { inputs[position] = image }
      }
      var op = node.op
      if reads[node.name] != nil, let attention = op as? Attention {
        // Its products are of codes, so the shares that multiply the values are codes too.
        op = Attention(
          headWidth: attention.headWidth, scale: attention.scale, isCausal: attention.isCausal,
          quantizesProbabilities: true)
      }
      let outputs = try rewriter.result.addNode(node.name, op, inputs)
      for (old, new) in zip(node.outputs, outputs) { rewriter.setImage(of: old, to: new) }
    }
  }

  /// Bytes of every parameter as stored: elements and scales, and a bit for each masked element.
  package var storedByteCount: Int {
    parameterValues.reduce(0) { $0 + (parameter($1)?.storedByteCount ?? 0) }
  }
}

extension Parameter {
  /// Bytes of the elements, the scales, and a bit for each element of the mask.
  package var storedByteCount: Int {
    let codeBits = quantization?.bitCount ?? tensor.dtype.byteCount * 8
    let scales = quantization?.scaleByteCount ?? 0
    return (tensor.count * codeBits + 7) / 8 + scales + ((mask?.count ?? 0) + 7) / 8
  }
}

extension WeightQuantization {
  /// Bytes of the scales: those of groups are numbers that float16 holds.
  package var scaleByteCount: Int { groupSize == nil ? scales.byteCount : scales.count * 2 }
}
