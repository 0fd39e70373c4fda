import GraphIR

/// The blocks of a tower, found by the names of their results: `image.layers.0` and so on.
struct InheritBlocks {
  let tower: Tower
  /// What each block reads.
  let inputs: [Value]

  /// Finds the blocks of `tower`.
  ///
  /// - Throws: ``PassError`` when there is none, or when a block has more than one way in or out.
  init(_ tower: Tower, in graph: Graph, pass: String) throws(PassError) {
    self.tower = tower
    guard !graph.values(of: tower).isEmpty else {
      throw .unsuitable(pass: pass, "the model has no \(tower.rawValue) tower")
    }
    func fault(_ layer: Int, _ what: String) -> PassError {
      .unsuitable(pass: pass, "block \(Self.name(tower, layer)) \(what)")
    }
    let owners = graph.values.map { Self.index(of: graph.name(of: $0), tower) }
    let count = (owners.compactMap { $0 }.max() ?? -1) + 1
    guard count > 0 else {
      throw .unsuitable(pass: pass, "no value is named \(Self.name(tower, 0)): which are blocks?")
    }
    var results: [Value] = []
    for layer in 0..<count {
      guard let result = graph.value(named: Self.name(tower, layer)),
        case .node = graph.origin(of: result)
      else { throw fault(layer, "is missing or was taken apart by another pass") }
      results.append(result)
    }
    var sources = [Set<Value>](repeating: [], count: count)
    for node in graph.nodes {
      let reader = owners[Int(node.outputs[0].index)]
      for input in node.inputs {
        let owner = owners[Int(input.index)]
        guard owner != reader else { continue }
        if let owner, input != results[owner] {
          throw fault(owner, "shares \(graph.name(of: input)) with \(node.name)")
        }
        guard let reader, graph.origin(of: input) != .parameter else { continue }
        sources[reader].insert(input)
      }
    }
    for output in graph.outputs {
      if let owner = owners[Int(output.value.index)], output.value != results[owner] {
        throw fault(owner, "makes the output \(output.name)")
      }
    }
    var inputs: [Value] = []
    for (layer, sources) in sources.enumerated() {
      guard sources.count == 1, let input = sources.first,
        layer == 0 || input == results[layer - 1]
      else {
        throw fault(layer, "reads something else than the block before it")
      }
      inputs.append(input)
    }
    self.inputs = inputs
  }

  /// How many blocks there are.
  var count: Int { inputs.count }

  /// The name of the result of block `layer`.
  static func name(_ tower: Tower, _ layer: Int) -> String {
    "\(tower.rawValue).layers.\(layer)"
  }

  /// The block of `tower` that a value belongs to by its name.
  static func index(of name: String, _ tower: Tower) -> Int? {
    let prefix = "\(tower.rawValue).layers."
    guard name.hasPrefix(prefix) else { return nil }
    let digits = name.dropFirst(prefix.count).prefix { $0 != "." }
    guard digits.utf8.count <= 6, let layer = Int(digits), "\(layer)" == digits, layer >= 0 else {
      return nil
    }
    return layer
  }

  /// The block of `tower` that all members of `group` belong to.
  static func index(of group: DependencyGroup, in graph: Graph, _ tower: Tower) -> Int? {
    let owners = Set(group.members.map { index(of: graph.name(of: $0.parameter), tower) })
    return owners.count == 1 ? owners.first ?? nil : nil
  }

  /// The name that `name` has where block `layer` it belongs to is counted as `index`.
  static func renamed(_ name: String, _ tower: Tower, from layer: Int, to index: Int) -> String {
    Self.name(tower, index) + name.dropFirst(Self.name(tower, layer).count)
  }
}

extension Graph {
  /// The graph with only the blocks `kept`, ascending, of those in `blocks`, counted anew.
  ///
  /// Each reads what the block before it makes; parameters of the others go.
  func keepingBlocks(_ kept: [Int], of blocks: InheritBlocks) throws(GraphError) -> Graph {
    guard kept.count < blocks.count else { return self }
    let places = Dictionary(uniqueKeysWithValues: kept.enumerated().map { ($1, $0) })
    var result = Graph()
    result.facts = facts
    result.provenance = provenance
    var images: [Value: Value] = [:]
    for value in values {
      let layer = InheritBlocks.index(of: name(of: value), blocks.tower)
      var name = name(of: value)
      if let layer {
        guard let place = places[layer] else {
          // What read the result of a block that goes now reads what the block would have.
          if name == InheritBlocks.name(blocks.tower, layer) {
            images[value] = images[blocks.inputs[layer]]
          }
          continue
        }
        name = InheritBlocks.renamed(name, blocks.tower, from: layer, to: place)
      }
      switch origin(of: value) {
      case .input: images[value] = try result.addInput(name, tensorType(of: value))
      case .parameter:
        guard let parameter = parameter(value) else { continue }
        images[value] = try result.addParameter(name, parameter)
      case .node(let index):
        let node = nodes[index]
        guard value == node.outputs[0] else { continue }
        let made = try result.addNode(name, node.op, node.inputs.compactMap { images[$0] })
        for (old, new) in zip(node.outputs, made) { images[old] = new }
      }
    }
    for output in outputs {
      if let image = images[output.value] { try result.addOutput(output.name, image) }
    }
    return result
  }
}
