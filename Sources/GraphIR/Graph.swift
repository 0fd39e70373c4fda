import TensorCore

/// A value of one graph, by its place; meaningless in another graph.
package struct Value: Hashable, Sendable {
  /// The place among the graph's values.
  package let index: Int32
}

/// One operation with its operands.
package struct Node: Sendable {
  /// The name of the node and of its first result.
  package let name: String
  /// The operation.
  package let op: any Op
  /// The values read.
  package let inputs: [Value]
  /// The values made.
  package let outputs: [Value]
}

/// A stored tensor of the model with what passes attached to it.
package struct Parameter: Sendable, Equatable {
  /// The elements: float32, int32, or int8 codes under ``quantization``.
  package var tensor: Tensor
  /// Zero where an element was pruned and one elsewhere, uint8 with the tensor's shape.
  package var mask: Tensor?
  /// What the codes mean, where the tensor holds codes.
  package var quantization: WeightQuantization?

  /// A parameter of `tensor` with an optional mask and quantization.
  package init(_ tensor: Tensor, mask: Tensor? = nil, quantization: WeightQuantization? = nil) {
    self.tensor = tensor
    self.mask = mask
    self.quantization = quantization
  }

  /// The type that operators see: codes stand for float32.
  package var type: TensorType {
    TensorType(quantization == nil ? tensor.dtype : .float32, shape: tensor.shape)
  }

  /// The float32 elements that operators compute with: masked, codes times scales.
  ///
  /// - Precondition: the elements are float32, or codes with a quantization.
  package var materialized: Tensor {
    guard mask != nil || quantization != nil else { return tensor }
    return Tensor(shape: tensor.shape, of: Float.self) { target in
      if let quantization {
        let scales = quantization.scales.elements(of: Float.self)
        tensor.withElements(of: Int8.self) { codes in
          quantization.forEachRun(of: tensor.shape) { elements, scale in
            for index in elements { target[index] = Float(codes[index]) * scales[scale] }
          }
        }
      } else {
        tensor.withElements(of: Float.self) { _ = target.update(from: $0) }
      }
      mask?.withElements(of: UInt8.self) { mask in
        for index in target.indices where mask[index] == 0 { target[index] = 0 }
      }
    }
  }
}

/// A statement about the model and where it comes from, such as an epsilon read from a file.
package struct Fact: Hashable, Sendable, Codable {
  /// What the statement is about, such as `image.activation`.
  package let name: String
  /// The value in words.
  package let value: String
  /// The file and key, or the library whose default it is.
  package let source: String

  /// States that `name` is `value` according to `source`.
  package init(name: String, value: String, source: String) {
    self.name = name
    self.value = value
    self.source = source
  }
}

/// One step on the way from a checkpoint to this graph.
package struct ProvenanceStep: Hashable, Sendable, Codable {
  /// The pass, or `load` for the reading of a checkpoint.
  package let pass: String
  /// The options by name, in words.
  package let options: [String: String]
  /// The seed of the step.
  package let seed: UInt64
  /// SHA-256 of the model file that the step read, in hexadecimal.
  package let inputSHA256: String

  /// Records that `pass` ran.
  package init(pass: String, options: [String: String], seed: UInt64, inputSHA256: String) {
    self.pass = pass
    self.options = options
    self.seed = seed
    self.inputSHA256 = inputSHA256
  }

  private enum CodingKeys: String, CodingKey {
    case pass
    case options
    case seed
    case inputSHA256 = "input_sha256"
  }
}

/// A model as operations in topological order over typed values.
///
/// A value type: passes take one graph and return another, and parameters share their storage.
package struct Graph: Sendable {
  /// What makes a value.
  package enum Origin: Hashable, Sendable {
    case input
    case parameter
    case node(Int)
  }

  struct ValueRecord: Sendable {
    var name: String
    var type: TensorType
    var origin: Origin
  }

  private(set) var records: [ValueRecord] = []
  private var valuesByName: [String: Value] = [:]
  private var parametersByValue: [Value: Parameter] = [:]

  /// The operations; each reads only what stands before it.
  package private(set) var nodes: [Node] = []
  /// The values that a caller provides.
  package private(set) var inputs: [Value] = []
  /// The values that parameters provide, in order of their making.
  package private(set) var parameterValues: [Value] = []
  /// The results by name.
  package private(set) var outputs: [(name: String, value: Value)] = []
  /// What is known of the model and from where.
  package var facts: [Fact] = []
  /// The way from the checkpoint to here.
  package var provenance: [ProvenanceStep] = []

  /// Makes an empty graph.
  package init() {}

  /// All values, inputs and parameters included.
  package var values: [Value] { records.indices.map { Value(index: Int32($0)) } }

  /// The type of `value`.
  package func tensorType(of value: Value) -> TensorType { records[Int(value.index)].type }

  /// The name of `value`.
  package func name(of value: Value) -> String { records[Int(value.index)].name }

  /// What makes `value`.
  package func origin(of value: Value) -> Origin { records[Int(value.index)].origin }

  /// The value called `name`.
  package func value(named name: String) -> Value? { valuesByName[name] }

  /// The output called `name`.
  package func output(named name: String) -> Value? {
    outputs.first { $0.name == name }?.value
  }

  /// The parameter behind `value`.
  package func parameter(_ value: Value) -> Parameter? { parametersByValue[value] }

  /// The parameter called `name`.
  package func parameter(named name: String) -> Parameter? {
    valuesByName[name].flatMap { parametersByValue[$0] }
  }

  /// The indices of the nodes that read each value, by the value's index.
  package func consumers() -> [[Int]] {
    var consumers = [[Int]](repeating: [], count: records.count)
    for (index, node) in nodes.enumerated() {
      for input in node.inputs where consumers[Int(input.index)].last != index {
        consumers[Int(input.index)].append(index)
      }
    }
    return consumers
  }

  /// Adds a value that a caller provides.
  package mutating func addInput(_ name: String, _ type: TensorType) throws(GraphError) -> Value {
    let value = try addValue(name, type, .input)
    inputs.append(value)
    return value
  }

  /// Adds a stored tensor.
  package mutating func addParameter(
    _ name: String, _ parameter: Parameter
  ) throws(GraphError) -> Value {
    try parameter.check(name)
    let value = try addValue(name, parameter.type, .parameter)
    parameterValues.append(value)
    parametersByValue[value] = parameter
    return value
  }

  /// Adds an operation called `name` and returns its results.
  package mutating func addNode(
    _ name: String, _ op: any Op, _ inputs: [Value]
  ) throws(GraphError) -> [Value] {
    guard inputs.allSatisfy({ $0.index >= 0 && Int($0.index) < records.count }) else {
      throw .invariant(node: name, "an input is not a value of this graph")
    }
    let types = try op.outputTypes(for: inputs.map { tensorType(of: $0) })
    var outputs: [Value] = []
    for (index, type) in types.enumerated() {
      let valueName = index == 0 ? name : "\(name).\(index)"
      outputs.append(try addValue(valueName, type, .node(nodes.count)))
    }
    nodes.append(Node(name: name, op: op, inputs: inputs, outputs: outputs))
    return outputs
  }

  /// Adds an operation with one result and returns it.
  package mutating func add(
    _ name: String, _ op: any Op, _ inputs: Value...
  ) throws(GraphError) -> Value {
    try addNode(name, op, inputs)[0]
  }

  /// Declares `value` a result called `name`.
  package mutating func addOutput(_ name: String, _ value: Value) throws(GraphError) {
    guard !outputs.contains(where: { $0.name == name }) else { throw .duplicateName(name) }
    guard Self.isName(name) else { throw .unknownName(name) }
    outputs.append((name, value))
  }

  /// Replaces the parameter behind `value`; its extents may change.
  ///
  /// After the last change of extents call ``inferTypes()``.
  package mutating func setParameter(
    _ value: Value, _ parameter: Parameter
  ) throws(GraphError) {
    guard parametersByValue[value] != nil else { throw .unknownName(name(of: value)) }
    try parameter.check(name(of: value))
    parametersByValue[value] = parameter
    records[Int(value.index)].type = parameter.type
  }

  /// Computes every node's result types anew from the inputs and parameters.
  package mutating func inferTypes() throws(GraphError) {
    for node in nodes {
      let types = try node.op.outputTypes(for: node.inputs.map { tensorType(of: $0) })
      guard types.count == node.outputs.count else {
        throw .invariant(node: node.name, "the number of results changed")
      }
      for (output, type) in zip(node.outputs, types) {
        records[Int(output.index)].type = type
      }
    }
  }

  /// Lets the extent that `old` stands for be the one that `new` stands for, in the whole graph.
  ///
  /// - Throws: ``GraphError`` when an operation cannot take that.
  package mutating func renameSymbol(_ old: String, to new: String) throws(GraphError) {
    for input in inputs {
      let extents = records[Int(input.index)].type.extents
      records[Int(input.index)].type.extents = extents.map {
        $0 == .symbol(old) ? .symbol(new) : $0
      }
    }
    try inferTypes()
  }

  private mutating func addValue(
    _ name: String, _ type: TensorType, _ origin: Origin
  ) throws(GraphError) -> Value {
    guard Self.isName(name) else {
      throw .syntax(line: 0, expected: "a name of letters, digits, '_', '.' and '-'", found: name)
    }
    guard valuesByName[name] == nil else { throw .duplicateName(name) }
    let value = Value(index: Int32(records.count))
    records.append(ValueRecord(name: name, type: type, origin: origin))
    valuesByName[name] = value
    return value
  }

  /// Whether `name` can stand in graph text.
  package static func isName(_ name: String) -> Bool {
    !name.isEmpty && name.utf8.count <= 256
      && name.utf8.allSatisfy { byte in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
          UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "_"), UInt8(ascii: "."),
          UInt8(ascii: "-"):
          true
        default: false
        }
      }
  }
}

extension Parameter {
  /// Throws unless mask, codes and scales fit the tensor.
  func check(_ name: String) throws(GraphError) {
    if let mask, mask.shape != tensor.shape || mask.dtype != .uint8 {
      throw .parameter(
        name: "\(name) (mask)", expected: "\(TensorType(.uint8, shape: tensor.shape))",
        found: "\(TensorType(mask.dtype, shape: mask.shape))")
    }
    guard let quantization else {
      guard tensor.dtype == .float32 || tensor.dtype == .int32 else {
        throw .parameter(
          name: name, expected: "float32 or int32", found: tensor.dtype.rawValue)
      }
      return
    }
    guard tensor.dtype == .int8 else {
      throw .parameter(name: name, expected: "int8 codes", found: tensor.dtype.rawValue)
    }
    guard (2...8).contains(quantization.bitCount), (quantization.groupSize ?? 1) > 0,
      quantization.grid == .symmetric || quantization.bitCount < 8
    else {
      throw .parameter(
        name: name, expected: "codes of 2 to 8 bits, symmetric at 8, in groups of one or more",
        found: "\(quantization.bitCount) bits")
    }
    let expected = quantization.scaleShape(of: tensor.shape)
    guard quantization.scales.dtype == .float32, quantization.scales.shape == expected else {
      throw .parameter(
        name: "\(name) (scales)", expected: "\(TensorType(.float32, shape: expected))",
        found: "\(TensorType(quantization.scales.dtype, shape: quantization.scales.shape))")
    }
  }
}
