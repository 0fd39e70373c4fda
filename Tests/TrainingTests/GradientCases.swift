import GraphIR
import Operators
import TensorCore
import Testing

/// An operator whose gradients are compared with differences.
struct GradientCase: Sendable, CustomTestStringConvertible {
  let op: any Op
  let operands: [GradientOperand]
  /// The largest error relative to the largest gradient.
  ///
  /// Differences reach 1e-11. It is wider where a fused operator computes with a constant in
  /// float64 that its decomposition, whose attributes are float32, holds rounded.
  var tolerance = 1e-10

  init(_ op: any Op, _ operands: GradientOperand..., tolerance: Double = 1e-10) {
    self.op = op
    self.operands = operands
    self.tolerance = tolerance
  }

  init(_ op: any Op, all operands: [GradientOperand]) {
    self.op = op
    self.operands = operands
  }

  init(_ op: any Op, _ extents: [Extent]...) {
    self.op = op
    operands = extents.map { GradientOperand($0) }
  }

  var testDescription: String { "\(type(of: op).name) \(op.attributes) \(operands.map(\.extents))" }

  /// Operators whose gradient is not the derivative.
  ///
  /// Rounding is flat almost everywhere, and what passes through it is an estimator, which
  /// `EstimatorTests` checks.
  static let estimators: Set<String> = [
    FakeQuantize.name, FakeQuantizeActivation.name, FakeQuantizeTokens.name,
    FakeQuantizeWeight.name, ClippingGate.name,
    OptimalScale.name, QuantizeGradient.name, RoundToBFloat16.name,
  ]

  /// Operators whose result is a constant of the routing or of the ids: they have no gradient.
  static let constants: Set<String> = [
    ExpertMask.name, RouteTokens.name, SlotMask.name, TextMask.name,
  ]

  static let all: [GradientCase] =
    elementwise + products + reductions + normalizations + attentions + tokens + experts

  private static let elementwise: [GradientCase] = {
    let x: [Extent] = [.batch, 5]
    let rounded = 1e-7
    var cases = [
      GradientCase(Add(), x, x), GradientCase(Multiply(), x, x), GradientCase(Fill(with: 3), x),
      GradientCase(Scale(by: -1.5), x), GradientCase(Offset(by: 0.75), x),
      GradientCase(
        Dropout(probability: 0.3, salt: 2), GradientOperand(x),
        GradientOperand([2], .ids(below: 1000))),
      GradientCase(Exponential(), x), GradientCase(Sigmoid(), [.batch, 2, 1, 3]),
      GradientCase(ErrorFunction(), GradientOperand(x), tolerance: rounded),
      GradientCase(GELU(), GradientOperand(x), tolerance: rounded),
      GradientCase(QuickGELU(), GradientOperand([7]), tolerance: rounded),
      GradientCase(IsPositive(), GradientOperand(x, .clear(of: [0]))),
      GradientCase(Clamp(-0.5, 0.75), GradientOperand(x, .clear(of: [-0.5, 0.75]))),
      GradientCase(Clamp(0), GradientOperand(x, .clear(of: [0]))),
      GradientCase(
        Gate(-0.5, 0.75), GradientOperand(x, .clear(of: [-0.5, 0.75])), GradientOperand(x)),
      GradientCase(ReciprocalSquareRoot(), GradientOperand(x, .positive)),
    ]
    for function in ActivationGradient.Function.allCases {
      cases.append(
        GradientCase(
          ActivationGradient(of: function), GradientOperand(x), GradientOperand(x),
          tolerance: rounded))
    }
    for (axis, unit, count) in [(0, 1, 4), (0, 2, 2), (1, 3, 3), (2, 1, 5), (2, 5, 1)] {
      let extents: [Extent] = axis == 0 ? [4, 9, 5] : [.batch, 9, 5]
      cases.append(GradientCase(ScaleAxis(axis: axis, unit: unit), extents, [.fixed(count)]))
      cases.append(GradientCase(ContractAxis(axis: axis, unit: unit), extents, extents))
    }
    return cases
  }()

  private static let products: [GradientCase] = {
    var cases: [GradientCase] = []
    for leading in [[], [.batch], [.batch, 2], [.batch, 1, 2]] as [[Extent]] {
      cases.append(GradientCase(Linear(), leading + [5], [3, 5], [3]))
      cases.append(GradientCase(Linear(), leading + [5], [1, 5]))
      cases.append(GradientCase(LinearTransposed(), leading + [3], [3, 5]))
      cases.append(GradientCase(ContractLeading(), leading + [3], leading + [5]))
    }
    for leading in [[], [.batch], [.batch, 2]] as [[Extent]] {
      for (a, b) in [(false, false), (true, false), (false, true), (true, true)] {
        cases.append(
          GradientCase(
            MatMul(transposesA: a, transposesB: b), leading + (a ? [5, 3] : [3, 5]),
            leading + (b ? [2, 5] : [5, 2])))
      }
    }
    return cases
  }()

  private static let reductions: [GradientCase] = {
    var cases: [GradientCase] = []
    for axes in ReducedAxes.allCases {
      for isMean in [false, true] {
        for extents in [[5], [.batch, 5], [.batch, 2, 5], [.batch, 1, 3, 2]] as [[Extent]] {
          cases.append(GradientCase(Sum(over: axes, isMean: isMean), extents))
          let rest: [Extent] =
            switch axes {
            case .last: extents.dropLast()
            case .leading: extents.suffix(1)
            case .all: []
            }
          cases.append(GradientCase(Broadcast(over: axes, isMean: isMean), rest, extents))
        }
      }
    }
    return cases
  }()

  private static let normalizations: [GradientCase] = {
    var cases: [GradientCase] = []
    for extents in [[5], [.batch, 5], [.batch, 2, 5]] as [[Extent]] {
      cases.append(GradientCase(L2Normalize(), extents))
      cases.append(GradientCase(Softmax(), extents))
      cases.append(GradientCase(LogSoftmax(), extents))
      cases.append(GradientCase(LayerNorm(epsilon: 1e-3), extents, [5], [5]))
      cases.append(GradientCase(LayerNormGradient(epsilon: 1e-3), extents, extents, [5]))
      cases.append(
        GradientCase(
          MaskedLayerNorm(epsilon: 1e-3), GradientOperand(extents), GradientOperand([5]),
          GradientOperand([5]), GradientOperand([5], .mask)))
      cases.append(
        GradientCase(
          LayerNormGradient(epsilon: 1e-3), GradientOperand(extents), GradientOperand(extents),
          GradientOperand([5]), GradientOperand([5], .mask)))
    }
    for extents in [[4, 4], [.batch, 3, 3], [.batch, 2, 3, 3]] as [[Extent]] {
      cases.append(GradientCase(Softmax(isCausal: true), extents))
    }
    return cases
  }()

  private static let attentions: [GradientCase] = {
    var cases = [
      GradientCase(SplitHeads(headWidth: 3), [.batch, .symbol("tokens"), 6]),
      GradientCase(MergeHeads(), [.batch, 2, .symbol("tokens"), 3]),
    ]
    for isCausal in [false, true] {
      for (tokens, headWidth, width) in [(.symbol("tokens"), 3, 6), (1, 1, 1), (5, 2, 2)]
        as [(Extent, Int, Extent)]
      {
        let attention = Attention(headWidth: headWidth, scale: 0.5, isCausal: isCausal)
        let x: [Extent] = [.batch, tokens, width]
        cases.append(GradientCase(attention, x, x, x))
        cases.append(GradientCase(AttentionGradient(of: attention), x, x, x, x))
      }
    }
    return cases
  }()

  private static let tokens: [GradientCase] = {
    let some = Extent.symbol("tokens")
    let ids = GradientOperand([.batch, some], .ids(below: 7))
    var cases = [
      GradientCase(AddPositions(), [.batch, some, 3], [6, 3]),
      GradientCase(SumPositions(rowCount: 6), [.batch, some, 3]),
      GradientCase(Embedding(), ids, GradientOperand([7, 3])),
      GradientCase(EmbeddingGradient(rowCount: 7), ids, GradientOperand([.batch, some, 3])),
      GradientCase(PrependToken(), [.batch, 5, 3], [3]),
      GradientCase(DropFirstToken(), [.batch, 5, 3]),
      GradientCase(DropFirstToken(), [.batch, 1, 3]),
      GradientCase(UnfoldPatches(patchSize: 2), [.batch, 3, 4, 6]),
      GradientCase(FoldPatches(patchSize: 2, height: 4, width: 6), [.batch, 6, 12]),
      GradientCase(Diagonal(), [.batch, .batch]), GradientCase(Diagonal(), [5, 5]),
      GradientCase(PlaceDiagonal(), [.batch], [.batch, .batch]),
    ]
    for index in [0, 4] {
      cases.append(GradientCase(SelectToken(index: index), [.batch, 5, 3]))
      cases.append(GradientCase(PlaceToken(at: index, of: 5), [.batch, 3]))
    }
    for rule in [.largest, .first(3)] as [EndTokenRule] {
      cases.append(
        GradientCase(SelectEndToken(rule: rule), GradientOperand([.batch, some, 3]), ids))
      cases.append(GradientCase(PlaceEndToken(rule: rule), GradientOperand([.batch, 3]), ids))
    }
    return cases
  }()
}
