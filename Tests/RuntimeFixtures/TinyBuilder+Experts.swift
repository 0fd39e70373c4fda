import ModelFormat

extension TinyBuilder {
  /// The two products of a layer by experts, and what was there before; of the pooled tokens alone
  /// if so wanted, which `rows` then says.
  mutating func experts(
    _ name: String, _ normed: Int, _ state: Int, _ rows: inout RowRule, isPooled: Bool
  ) -> Int {
    let count = model.expertCount
    var route = RouteTokens(
      logits: 0, places: 0, gates: 0, order: 0, topK: model.expertTopK,
      capacity: model.expertCapacity, isNormalized: model.normalizesGates)
    route.logits = linear(
      "\(name).router", normed, from: model.width, quantization: codes, to: count, rows,
      hasBias: false)
    var (normed, state) = (normed, state)
    if isPooled {
      normed = pool(normed, codes: codes)
      state = pool(state)
      rows = .perItem(1)
    }
    guard let inner = route.rowRule(tokens: rows, experts: count) else { return state }
    let slots = route.slotCount(experts: count)
    route.places = program.buffer(rows, columns: slots, isIndices: true)
    route.gates = program.buffer(rows, columns: slots)
    route.order = program.buffer(inner, columns: 3, isIndices: true)
    program.append(.routeTokens(route), name: "\(name).route")
    let neurons = expertLinear(
      "\(name).fc1", normed, (rows, inner), order: route.order, isOrdered: false,
      from: model.width, quantization: codes, to: model.neuronCount, codes: neuronCodes,
      activation: model.activation)
    let sums = expertLinear(
      "\(name).fc2", neurons, (rows, inner), order: route.order, isOrdered: true,
      from: model.neuronCount, quantization: neuronCodes, to: model.width)
    let output = program.buffer(rows, columns: model.width)
    program.append(
      .combineExperts(
        CombineExperts(
          input: sums, places: route.places, gates: route.gates, output: output,
          residual: state)), name: "\(name).combine")
    return output
  }

  private mutating func expertLinear(
    _ name: String, _ input: Int, _ rows: (tokens: RowRule, slots: RowRule), order: Int,
    isOrdered: Bool, from inputs: Int, quantization: BufferQuantization?, to count: Int,
    codes: BufferQuantization? = nil, activation: Activation = .none
  ) -> Int {
    var linear = ExpertLinear(
      input: input, order: order, output: 0, activation: activation, isOrdered: isOrdered,
      experts: [])
    var quantization = quantization
    let coded = tokenCodes(name, input, from: inputs, isOrdered ? rows.slots : rows.tokens)
    if let coded {
      linear.input = coded.codes
      linear.rowScale = coded.scales
      quantization = coded.quantization
    }
    for expert in 0..<model.expertCount {
      linear.experts.append(
        operands("\(name).\(expert)", from: inputs, quantization: quantization, to: count))
    }
    linear.output = program.buffer(rows.slots, columns: count, quantization: codes)
    program.append(.expertLinear(linear), name: name)
    return linear.output
  }
}
