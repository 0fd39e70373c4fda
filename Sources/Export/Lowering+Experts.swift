import GraphIR
import ModelFormat
import Operators
import TensorCore

/// The buffers that tell which experts compute which tokens.
struct LoweredRoute {
  /// The row of each slot.
  let places: Int
  /// What each slot counts.
  let gates: Int
  /// The token and expert of each row.
  let order: Int
  /// The rows of the tokens.
  let tokens: RowRule
  /// The rows of their slots.
  let rows: RowRule
  /// How many experts there are.
  let experts: Int
  /// Whether tokens are the pooled ones alone.
  let isPooled: Bool
}

extension Lowering {
  /// The choice of experts and the gates of those chosen, as one instruction.
  mutating func lower(_ node: Node, _ op: Operators.RouteTokens) throws(ExportError) {
    let assignment = node.outputs[0]
    let gating = needs.readers(of: assignment, in: graph).filter { $0.op is ExpertGates }
    guard gating.count == 1, let gates = gating[0].op as? ExpertGates,
      gating[0].inputs[0] == node.inputs[0]
    else { throw unsupported(node, "expected one expert_gates of the same logits to read it") }
    let experts = columns(of: node.inputs[0])
    guard experts <= Limit.expertCount else {
      throw unsupported(node, "expected at most \(Limit.expertCount) experts, found \(experts)")
    }
    let isPooled = isPooled(assignment)
    // Where tokens compete, those that are not wanted must still be seen.
    let logits = try buffer(
      of: node.inputs[0], for: op.capacity == 0 ? assignment : node.inputs[0])
    let tokens = isPooled ? .perItem(1) : rows(of: node.inputs[0])
    var route = ModelFormat.RouteTokens(
      logits: logits, places: 0, gates: 0, order: 0, topK: 0,
      capacity: min(op.capacity, Limit.rowCount), isNormalized: gates.isNormalized)
    if case .tokens(let topK) = op.choice { route.topK = topK }
    guard let rows = route.rowRule(tokens: tokens, experts: experts) else {
      throw unsupported(node, "its slots are too many")
    }
    let slots = route.slotCount(experts: experts)
    route.places = builder.buffer(tokens, columns: slots, isIndices: true)
    route.gates = builder.buffer(tokens, columns: slots)
    route.order = builder.buffer(rows, columns: 3, isIndices: true)
    done.insert(gating[0].name)
    routes[assignment] = LoweredRoute(
      places: route.places, gates: route.gates, order: route.order, tokens: tokens, rows: rows,
      experts: experts, isPooled: isPooled)
    gateRoutes[gating[0].outputs[0]] = assignment
    builder.append(.routeTokens(route), name: node.name)
  }

  /// The linears of all experts, an activation function and the step to codes, as one instruction.
  mutating func lower(_ node: Node, _ op: GroupedLinear) throws(ExportError) {
    guard let route = routes[node.inputs[1]], op.first == 0, op.experts == route.experts,
      route.isPooled == isPooled(node.outputs[0])
    else { throw unsupported(node, "its experts are not those of one route_tokens") }
    let source = node.inputs[0]
    let isOrdered = expertRows[source] != nil
    var end = node.outputs[0]
    var activation = Activation.none
    if let reader = needs.soleConsumer(of: end, in: graph),
      let function = Self.activation(reader.op)
    {
      activation = function
      done.insert(reader.name)
      end = reader.outputs[0]
    }
    let (value, codes) = fuseCodes(after: end)
    expertRows[value] = route.rows
    let input = try buffer(of: source, for: node.outputs[0])
    let experts = try expertOperands(node, op, self.codes[source])
    let output = makeBuffer(value, codes: codes)
    builder.append(
      .expertLinear(
        ExpertLinear(
          input: input, order: route.order, output: output, activation: activation,
          isOrdered: isOrdered, rowScale: rowScale(of: source, for: node.outputs[0]),
          experts: experts)),
      name: node.name)
  }

  /// Stores what each expert of `node` multiplies by, all weights before what goes with them, so
  /// that an expert that is not used shares as few pages as possible with those that are.
  private mutating func expertOperands(
    _ node: Node, _ op: GroupedLinear, _ inputCodes: ActivationQuantization?
  ) throws(ExportError) -> [ExpertLinear.Expert] {
    let isRounded = isRounded(node.inputs[0])
    var stacks: [WeightStack] = []
    var experts: [ExpertLinear.Expert] = []
    for index in 0..<op.experts {
      let bias = op.hasBias ? node.inputs[op.biasRange.lowerBound + index] : nil
      let stack = try WeightStack(
        [(node.inputs[op.weightRange.lowerBound + index], bias)], of: node, self)
      guard stack.isInteger || inputCodes == nil else {
        throw unsupported(node, "activations that are codes need weights that are codes")
      }
      guard stack.isBFloat16 || !isRounded else {
        throw unsupported(node, "activations that are bfloat16 need weights that are bfloat16")
      }
      stacks.append(stack)
      let weight = add("\(node.name).\(index).weight") {
        isRounded ? stack.pairs : stack.panels
      }
      experts.append(ExpertLinear.Expert(weight: weight))
    }
    for (index, stack) in stacks.enumerated() {
      let name = "\(node.name).\(index)"
      if stack.isInteger {
        experts[index].scale = add("\(name).scale\(inputCodes == nil ? "" : ".input")") {
          stack.scales(times: inputCodes?.scale)
        }
        if let inputCodes, !stack.hasGroups {
          experts[index].correction = add("\(name).correction") {
            stack.correction(zeroPoint: inputCodes.zeroPoint)
          }
        }
      }
      if let bias = stack.bias {
        experts[index].bias = add("\(name).bias") { .floats(bias, columns: bias.count) }
      }
    }
    return experts
  }

  /// The weighted sum of what experts computed, and a residual sum, as one instruction.
  mutating func lower(_ node: Node, _ op: Operators.CombineExperts) throws(ExportError) {
    guard let assignment = gateRoutes[node.inputs[1]], let route = routes[assignment],
      expertRows[node.inputs[0]] != nil
    else { throw unsupported(node, "its rows and gates are not those of one route_tokens") }
    guard self.codes[node.inputs[0]] == nil else {
      throw unsupported(node, "what it adds up can not be codes")
    }
    var value = node.outputs[0]
    var residual: Value?
    if let reader = needs.soleConsumer(of: value, in: graph), reader.op is Add {
      let other = reader.inputs[0] == value ? reader.inputs[1] : reader.inputs[0]
      if isMade(other) {
        residual = other
        done.insert(reader.name)
        value = reader.outputs[0]
      }
    }
    var combination = ModelFormat.CombineExperts(
      input: try buffer(of: node.inputs[0], for: node.inputs[0]), places: route.places,
      gates: route.gates, output: 0)
    if let residual { combination.residual = try buffer(of: residual, for: value) }
    combination.output = makeBuffer(value)
    builder.append(.combineExperts(combination), name: node.name)
  }
}
