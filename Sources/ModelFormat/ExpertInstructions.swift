/// Chooses the experts of each token and puts what they compute in order, expert by expert.
///
/// A token has a slot for each expert that it may take. Each slot that has an expert with room gets
/// a row of its own; rows follow each other by expert, then by token, then by slot, over the whole
/// batch.
public struct RouteTokens: Equatable, Sendable {
  /// `[tokens, experts]` float32.
  public var logits: Int
  /// `[tokens, slots]` indices: the row of each slot; or the pooled token's alone.
  public var places: Int
  /// `[tokens, slots]` float32, what each slot counts; the rows of `places`.
  public var gates: Int
  /// `[rows, 3]` indices: the token and the expert of each row and, in the first row of an expert,
  /// the first one behind its last.
  public var order: Int
  /// Experts that each token chooses; 0 where experts choose tokens.
  public var topK: Int
  /// Tokens of an item that an expert takes at most; 0 for any number.
  public var capacity: Int
  /// Whether gates are shares among the experts chosen, not among all.
  public var isNormalized: Bool

  /// Gathers the operands.
  public init(
    logits: Int, places: Int, gates: Int, order: Int, topK: Int, capacity: Int = 0,
    isNormalized: Bool
  ) {
    self.logits = logits
    self.places = places
    self.gates = gates
    self.order = order
    self.topK = topK
    self.capacity = capacity
    self.isNormalized = isNormalized
  }

  /// Slots of a token, of so many experts.
  public func slotCount(experts: Int) -> Int { topK == 0 ? experts : topK }

  /// The rows that the slots of `tokens` may need, of so many experts; nil where they overflow.
  public func rowRule(tokens: RowRule, experts: Int) -> RowRule? {
    let slots = slotCount(experts: experts)
    guard case .perItem(let count) = tokens else {
      return tokens == .perToken ? slots == 1 ? .perToken : .perSlot(slots) : nil
    }
    let (all, overflow) = count.multipliedReportingOverflow(by: slots)
    guard !overflow else { return nil }
    let (room, isLarge) = experts.multipliedReportingOverflow(by: capacity)
    return .perItem(capacity > 0 && !isLarge ? min(all, room) : all)
  }
}

/// `output = activation(input * weightᵀ + bias)` by the weights of each row's expert.
///
/// Weights of experts without rows are not read.
public struct ExpertLinear: Equatable, Sendable {
  /// What one expert multiplies by; operands as of ``Linear``.
  public struct Expert: Equatable, Sendable {
    /// `[N, K]` in panels.
    public var weight: Int
    /// Scales of codes.
    public var scale: Int?
    /// `[1, N]` int32.
    public var correction: Int?
    /// `[1, N]` float32.
    public var bias: Int?

    /// Gathers the operands.
    public init(weight: Int, scale: Int? = nil, correction: Int? = nil, bias: Int? = nil) {
      self.weight = weight
      self.scale = scale
      self.correction = correction
      self.bias = bias
    }
  }

  /// `[tokens, K]`, or `[rows, K]` where the rows are in order already.
  public var input: Int
  /// ``RouteTokens/order``.
  public var order: Int
  /// `[rows, N]`, float32 or uint8.
  public var output: Int
  /// Applied behind the bias.
  public var activation: Activation
  /// Whether the input's rows are in order already.
  public var isOrdered: Bool
  /// `[tokens or rows, 1]` float32 buffer: what else the rows of a uint8 input are multiplied by.
  public var rowScale: Int?
  /// The experts.
  public var experts: [Expert]

  /// Gathers the operands.
  public init(
    input: Int, order: Int, output: Int, activation: Activation = .none, isOrdered: Bool,
    rowScale: Int? = nil, experts: [Expert]
  ) {
    self.input = input
    self.order = order
    self.output = output
    self.activation = activation
    self.isOrdered = isOrdered
    self.rowScale = rowScale
    self.experts = experts
  }
}

/// `output = residual + Σ gate · row` over the slots of each token that have a row.
public struct CombineExperts: Equatable, Sendable {
  /// `[rows, columns]` float32.
  public var input: Int
  /// ``RouteTokens/places``.
  public var places: Int
  /// `[tokens, slots]` float32.
  public var gates: Int
  /// `[tokens, columns]` float32.
  public var output: Int
  /// `[tokens, columns]` float32 buffer.
  public var residual: Int?

  /// Gathers the operands.
  public init(input: Int, places: Int, gates: Int, output: Int, residual: Int? = nil) {
    self.input = input
    self.places = places
    self.gates = gates
    self.output = output
    self.residual = residual
  }
}
