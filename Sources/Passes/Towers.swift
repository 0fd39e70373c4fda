import GraphIR
import TensorCore

/// The part of a model that a pass works on.
package enum TowerSelection: String, Codable, Sendable, CaseIterable {
  case image
  case text
  case both

  /// Selects `towers`.
  package init(_ towers: [Tower]) {
    self = Set(towers).count == 1 ? (towers[0] == .image ? .image : .text) : .both
  }

  /// The towers by themselves.
  package var towers: [Tower] {
    switch self {
    case .image: [.image]
    case .text: [.text]
    case .both: [.image, .text]
    }
  }
}

/// One of the two halves of a model: what an output needs.
package enum Tower: String, Codable, Sendable, CaseIterable {
  case image
  case text

  /// The graph output that the tower computes.
  package var outputName: String {
    switch self {
    case .image: "image_embeds"
    case .text: "text_embeds"
    }
  }
}

extension Graph {
  /// The values that `tower`'s output needs, the output included; none if the graph lacks it.
  package func values(of tower: Tower) -> Set<Value> {
    guard let output = output(named: tower.outputName) else { return [] }
    var needed: Set<Value> = [output]
    for node in nodes.reversed() where node.outputs.contains(where: needed.contains) {
      needed.formUnion(node.inputs)
    }
    return needed
  }

  /// The values that any of `towers` needs.
  package func values(of towers: [Tower]) -> Set<Value> {
    towers.reduce(into: []) { $0.formUnion(values(of: $1)) }
  }

  /// The parameters that integer kernels can multiply with: weights that meet an activation.
  package var multipliedWeights: [Value] { weights { !$0.activationInputs.isEmpty } }

  /// The parameters that are looked up by row, such as a token embedding.
  package var gatheredTables: [Value] { weights { $0.activationInputs.isEmpty } }

  private func weights(where isWanted: (any QuantizableOp) -> Bool) -> [Value] {
    var found = Set<Value>()
    for node in nodes {
      guard let op = node.op as? any QuantizableOp, isWanted(op) else { continue }
      for input in op.weightInputs where input < node.inputs.count {
        if parameter(node.inputs[input]) != nil { found.insert(node.inputs[input]) }
      }
    }
    return parameterValues.filter(found.contains)
  }

  /// The parameters of `towers`, tables that are looked up by row aside.
  package func parameters(of towers: [Tower]) -> [Value] {
    let needed = values(of: towers).subtracting(gatheredTables)
    return parameterValues.filter(needed.contains)
  }

  /// The elements of the parameters of `towers`, tables that are looked up by row aside.
  package func parameterCount(of towers: [Tower]) -> Int {
    parameters(of: towers).reduce(0) { $0 + (parameter($1)?.tensor.count ?? 0) }
  }
}

/// Whether `name` matches `pattern`, in which `*` stands for any characters.
package func matches(_ name: String, pattern: String) -> Bool {
  let parts = pattern.split(separator: "*", omittingEmptySubsequences: false)
  guard parts.count > 1 else { return name == pattern }
  var rest = Substring(name)
  guard rest.hasPrefix(parts[0]) else { return false }
  rest.removeFirst(parts[0].count)
  for part in parts[1..<(parts.count - 1)] where !part.isEmpty {
    guard let range = rest.firstRange(of: part) else { return false }
    rest = rest[range.upperBound...]
  }
  return rest.hasSuffix(parts[parts.count - 1])
}
