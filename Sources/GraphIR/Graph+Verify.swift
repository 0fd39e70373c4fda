import TensorCore

extension Graph {
  /// Throws unless every invariant holds.
  ///
  /// Checked: nodes read only earlier values of this graph; types are what the operators infer;
  /// parameters have their declared types, finite scales and masks that fit; outputs exist.
  package func verify() throws(GraphError) {
    var defined = [Bool](repeating: false, count: records.count)
    for value in inputs + parameterValues { defined[Int(value.index)] = true }
    for node in nodes {
      for input in node.inputs {
        guard defined.indices.contains(Int(input.index)), defined[Int(input.index)] else {
          throw .invariant(node: node.name, "reads a value that is not made before it")
        }
      }
      let types = try node.op.outputTypes(for: node.inputs.map { tensorType(of: $0) })
      guard types == node.outputs.map({ tensorType(of: $0) }) else {
        throw .invariant(node: node.name, "has results of other types than its operator infers")
      }
      for output in node.outputs {
        guard !defined[Int(output.index)] else {
          throw .invariant(node: node.name, "makes a value that is already made")
        }
        defined[Int(output.index)] = true
      }
    }
    guard defined.allSatisfy({ $0 }) else {
      throw .invariant(node: "graph", "has a value that nothing makes")
    }
    for value in parameterValues { try verifyParameter(value) }
  }

  private func verifyParameter(_ value: Value) throws(GraphError) {
    let name = name(of: value)
    guard let parameter = parameter(value) else {
      throw .invariant(node: name, "is a parameter without a tensor")
    }
    try parameter.check(name)
    guard parameter.type == tensorType(of: value) else {
      throw .parameter(
        name: name, expected: "\(tensorType(of: value))", found: "\(parameter.type)")
    }
    if let quantization = parameter.quantization {
      let allUsable = quantization.scales.withElements(of: Float.self) { scales in
        scales.allSatisfy {
          $0.isFinite && (quantization.grid == .symmetric ? $0 > 0 : $0 != 0)
        }
      }
      guard allUsable else {
        throw .parameter(
          name: name, expected: "finite scales, positive on a symmetric grid",
          found: "another scale")
      }
    }
  }
}
