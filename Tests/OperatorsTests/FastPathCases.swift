import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

extension OperatorCase {
  /// Every operator on odd shapes, empty ones among them.
  static let all: [OperatorCase] =
    elementwise + products + normalizations + attentions + quantizations + reductions + tokens
    + sequences + experts

  private static let elementwise: [OperatorCase] = {
    var cases: [OperatorCase] = []
    let unary: [any Op] = [
      QuickGELU(), GELU(), Clamp(-0.5, 1.5), ErrorFunction(), Exponential(), Fill(with: 0.1),
      IsPositive(), Offset(by: 0.3), ReciprocalSquareRoot(), Scale(by: -0.7), Sigmoid(),
    ]
    let binary: [any Op] = [
      Add(), Multiply(), Gate(-0.5, 1.5), ActivationGradient(of: .gelu),
      ActivationGradient(of: .quickGELU),
    ]
    for count in [0, 1, 15, 16, 17, 301] {
      for op in unary { cases.append(random(op, [[count]])) }
      for op in binary { cases.append(random(op, [[count], [count]])) }
    }
    for op in unary { cases.append(random(op, [[2, 3, 1, 5]])) }
    for (axis, unit, count) in [(0, 1, 6), (0, 3, 2), (1, 5, 1), (2, 2, 2), (2, 1, 4)] {
      cases.append(random(ScaleAxis(axis: axis, unit: unit), [[6, 5, 4], [count]]))
      cases.append(random(ContractAxis(axis: axis, unit: unit), [[6, 5, 4], [6, 5, 4]]))
    }
    return cases
  }()

  private static let products: [OperatorCase] = {
    var cases: [OperatorCase] = []
    for (rows, width, out) in [(1, 1, 1), (3, 17, 5), (2, 0, 7), (31, 64, 33), (0, 4, 3)] {
      cases.append(random(Linear(), [[rows, width], [out, width], [out]]))
      cases.append(random(Linear(), [[1, rows, width], [out, width]]))
      cases.append(random(LinearTransposed(), [[rows, out], [out, width]]))
      cases.append(random(LinearTransposed(), [[2, rows, out], [out, width]]))
      cases.append(random(ContractLeading(), [[rows, out], [rows, width]]))
      cases.append(random(ContractLeading(), [[2, rows, out], [2, rows, width]]))
      for (a, b) in [(false, false), (true, false), (false, true), (true, true)] {
        for leading in [[], [3], [2, 1]] {
          let left = leading + (a ? [width, rows] : [rows, width])
          let right = leading + (b ? [out, width] : [width, out])
          cases.append(random(MatMul(transposesA: a, transposesB: b), [left, right]))
        }
      }
    }
    return cases
  }()

  private static let normalizations: [OperatorCase] = {
    var cases: [OperatorCase] = []
    for width in [1, 16, 17, 65] {
      for rows in [[7], [2, 3], []] {
        let shape = rows + [width]
        let mask = Tensor(shape: [width], (0..<width).map { Float($0 % 3 == 1 ? 0 : 1) })
        let norm = random(LayerNorm(epsilon: 1e-5), [shape, [width], [width]])
        let gradient = random(LayerNormGradient(epsilon: 1e-5), [shape, shape, [width]])
        cases += [norm, gradient, gradient.appending(mask)]
        cases.append(
          OperatorCase(op: MaskedLayerNorm(epsilon: 1e-5), inputs: norm.inputs + [mask]))
        cases.append(random(L2Normalize(), [shape]))
        cases.append(random(Softmax(), [shape]))
        cases.append(random(LogSoftmax(), [shape]))
      }
      cases.append(random(Softmax(isCausal: true), [[2, width, width]]))
      cases.append(random(LayerNormGradient(epsilon: 1e-5), [[0, width], [0, width], [width]]))
    }
    // More rows than one thread takes.
    let shape = [301, 17]
    cases.append(random(LayerNormGradient(epsilon: 1e-5), [shape, shape, [17]]))
    return cases
  }()

  private static let attentions: [OperatorCase] = {
    var cases: [OperatorCase] = []
    for (tokens, heads, headWidth) in [(1, 1, 1), (5, 3, 4), (17, 2, 16), (33, 1, 7), (4, 0, 8)] {
      let shape = [2, tokens, heads * headWidth]
      for isCausal in [false, true] {
        let op = Attention(headWidth: headWidth, scale: 0.5, isCausal: isCausal)
        cases.append(random(op, [shape, shape, shape]))
        cases.append(random(AttentionGradient(of: op), [shape, shape, shape, shape]))
      }
      cases.append(random(SplitHeads(headWidth: headWidth), [shape]))
      cases.append(random(MergeHeads(), [[2, heads, tokens, headWidth]]))
    }
    return cases
  }()

  private static let quantizations: [OperatorCase] = {
    var cases: [OperatorCase] = []
    for (zeroPoint, lowest) in [(128, 1), (0, 0), (13, 0)] as [(UInt8, UInt8)] {
      let codes = ActivationQuantization(scale: 0.037, zeroPoint: zeroPoint, lowest: lowest)
      for count in [0, 1, 15, 16, 17, 301] {
        cases.append(random(FakeQuantize(parameters: codes), [[count]]))
        let step = Tensor(scalar: 0.03125)
        for estimator in GradientEstimator.allCases {
          let op = FakeQuantizeActivation(codes, estimator: estimator)
          cases.append(random(op, [[count]]).appending(step))
          let gate = ClippingGate(codes: op.centeredCodes, estimator: estimator)
          let pair = random(gate, [[count], [count]]).inputs
          cases.append(OperatorCase(op: gate, inputs: [pair[0], step, pair[1]]))
        }
        let range = -3 - Int(zeroPoint)...(255 - Int(zeroPoint))
        cases.append(random(OptimalScale(codes: range), [[count]]).appending(step))
      }
    }
    for count in [0, 1, 17, 301] { cases.append(random(RoundToBFloat16(), [[count]])) }
    for bitCount in [2, 4, 8] {
      cases.append(random(FakeQuantizeTokens(bitCount: bitCount), [[3, 17]]))
    }
    for count in [0, 1, 4, 301] {
      let op = Dropout(probability: 0.4, salt: 1)
      cases.append(random(op, [[count]]).appending(Tensor(shape: [2], [7, 9] as [Int32])))
    }
    for bitCount in [1, 4, 8] {
      for levels in QuantizeGradient.Levels.allCases {
        let op = QuantizeGradient(bitCount: bitCount, levels: levels, salt: 3)
        cases.append(random(op, [[2, 4, 5]]).appending(Tensor(shape: [2], [7, 9] as [Int32])))
      }
    }
    // Powers of two, so that float32 and float64 round to the same codes.
    for bitCount in [2, 4, 8] {
      var random = SplitMix64(seed: 6)
      let (w, g) = (random.normalTensor([5, 3, 7]), random.normalTensor([5, 3, 7]))
      for grid in CodeGrid.allCases {
        for groupSize in [nil, 1, 8, 21, 30] {
          let groups = groupSize.map { (21 + $0 - 1) / $0 } ?? 1
          // Negative ones turn the grid about.
          let all = (0..<(5 * groups)).map { index in
            (grid == .full && index % 2 == 1 ? -1 : 1)
              * Float(sign: .plus, exponent: -index % 4, significand: 1)
          }
          let scales = Tensor(shape: groupSize == nil ? [5] : [5, groups], all)
          let op = FakeQuantizeWeight(bitCount: bitCount, grid: grid, groupSize: groupSize)
          cases.append(OperatorCase(op: op, inputs: [w, scales]))
          for estimator in GradientEstimator.allCases {
            let gate = ClippingGate(
              codes: op.codes, groupSize: groupSize, estimator: estimator)
            cases.append(OperatorCase(op: gate, inputs: [w, scales, g]))
          }
        }
      }
    }
    return cases
  }()

  private static let reductions: [OperatorCase] = {
    var cases: [OperatorCase] = []
    for axes in ReducedAxes.allCases {
      for isMean in [false, true] {
        for shape in [[1], [17], [3, 17], [301, 5], [0, 4], [2, 3, 5], [2, 1, 3, 7]] {
          cases.append(random(Sum(over: axes, isMean: isMean), [shape]))
          let rest: [Int] =
            switch axes {
            case .last: shape.dropLast()
            case .leading: shape.suffix(1)
            case .all: []
            }
          cases.append(random(Broadcast(over: axes, isMean: isMean), [rest, shape]))
        }
      }
    }
    return cases
  }()

  private static let tokens: [OperatorCase] = {
    var random = SplitMix64(seed: 2)
    let ids = random.idTensor([3, 5], below: 11)
    var cases = [
      OperatorCase.random(AddPositions(), [[3, 5, 7], [9, 7]]),
      OperatorCase.random(SumPositions(rowCount: 9), [[3, 5, 7]]),
      OperatorCase.random(PrependToken(), [[3, 5, 7], [7]]),
      OperatorCase.random(DropFirstToken(), [[3, 5, 7]]),
      OperatorCase.random(DropFirstToken(), [[3, 1, 7]]),
      OperatorCase.random(SelectToken(index: 4), [[3, 5, 7]]),
      OperatorCase.random(PlaceToken(at: 4, of: 5), [[3, 7]]),
      OperatorCase.random(UnfoldPatches(patchSize: 3), [[2, 3, 6, 9]]),
      OperatorCase.random(FoldPatches(patchSize: 3, height: 6, width: 9), [[2, 6, 27]]),
      OperatorCase.random(Diagonal(), [[7, 7]]),
      OperatorCase.random(PlaceDiagonal(), [[7], [7, 7]]),
      OperatorCase(op: Embedding(), inputs: [ids, random.normalTensor([11, 7])]),
      OperatorCase(
        op: EmbeddingGradient(rowCount: 11), inputs: [ids, random.normalTensor([3, 5, 7])]),
    ]
    for rule in [.largest, .first(3)] as [EndTokenRule] {
      cases.append(
        OperatorCase(
          op: SelectEndToken(rule: rule), inputs: [random.normalTensor([3, 5, 7]), ids]))
      cases.append(
        OperatorCase(op: PlaceEndToken(rule: rule), inputs: [random.normalTensor([3, 7]), ids]))
    }
    return cases
  }()

  private static let sequences: [OperatorCase] = {
    var cases: [OperatorCase] = []
    for (tokens, heads, headWidth) in [(1, 1, 1), (2, 2, 3), (17, 2, 16), (33, 1, 7), (6, 0, 8)] {
      let keys = [2, tokens, heads * headWidth]
      let sizes = Tensor(
        shape: [2, tokens], (0..<(2 * tokens)).map { Float(1 + $0 * 5 % 7) })
      let attention = Attention(headWidth: headWidth, scale: 0.5, isCausal: false)
      cases.append(
        random(ProportionalAttention(attention), [keys, keys, keys]).appending(sizes))
      for count in Set([0, 1, (tokens - 1) / 2]) where count <= (tokens - 1) / 2 {
        let merge = random(
          TokenMerge(count: count, headWidth: headWidth), [[2, tokens, 19], keys])
        cases += [merge, merge.appending(sizes)]
      }
      for grid in [TokenGrid(leading: 1), TokenGrid(leading: 1, columns: 4, spacing: 2)] {
        let count = max((2 * tokens + 2) / 3, grid.certainCount(of: tokens))
        let drop = TokenDrop(count: count, grid: grid, headWidth: headWidth, scale: 0.5)
        cases.append(random(drop, [[2, tokens, 19], keys, keys]))
      }
    }
    return cases
  }()

  /// Operators with fast paths of their own, large enough for several threads.
  ///
  /// Results are independent of the thread count where every element is computed by one thread in
  /// one order, which sums over rows and the library's products are not.
  static let threaded: [(testCase: OperatorCase, isIndependent: Bool)] = {
    let rows = [301, 17]
    let items = [3, 19, 20]
    let attention = Attention(headWidth: 4, scale: 0.5, isCausal: true)
    let reduction = TokenDrop(
      count: 11, grid: TokenGrid(leading: 1, columns: 6, spacing: 3), headWidth: 4, scale: 0.5)
    let norm = random(LayerNorm(epsilon: 1e-5), [rows, [17], [17]])
    let mask = Tensor(shape: [17], (0..<17).map { Float($0 % 3 == 1 ? 0 : 1) })
    let codes = ActivationQuantization(scale: 0.037, zeroPoint: 128, lowest: 1)
    let many = [100_003]
    let seed = Tensor(shape: [2], [7, -9] as [Int32])
    return [
      (norm, true),
      (OperatorCase(op: MaskedLayerNorm(epsilon: 1e-5), inputs: norm.inputs + [mask]), true),
      (random(attention, [items, items, items]), true),
      (random(TokenMerge(count: 7, headWidth: 4), [[5, 19, 9], [5, 19, 20]]), true),
      (random(reduction, [[5, 19, 9], [5, 19, 20], [5, 19, 20]]), true),
      (random(AttentionGradient(of: attention), [items, items, items, items]), true),
      (random(GELU(), [many]), true), (random(QuickGELU(), [many]), true),
      (random(ActivationGradient(of: .gelu), [many, many]), true),
      (random(ActivationGradient(of: .quickGELU), [many, many]), true),
      (random(Add(), [[200_003], [200_003]]), true),
      (random(FakeQuantize(parameters: codes), [many]), true),
      (random(OptimalScale(codes: -8...7), [[200_003]]).appending(Tensor(scalar: 0.1)), true),
      (random(FakeQuantizeWeight(bitCount: 4, groupSize: 8), [[301, 129], [301, 17]]), true),
      (
        random(
          ClippingGate(codes: -7...7, estimator: .magnitudeAware),
          [[301, 129], [301], [301, 129]]), true
      ),
      (
        random(QuantizeGradient(bitCount: 1, levels: .row, salt: 1), [[301, 65]]).appending(seed),
        true
      ),
      (
        random(QuantizeGradient(bitCount: 1, levels: .channel, salt: 1), [[301, 65]])
          .appending(seed), true
      ),
      (random(LayerNormGradient(epsilon: 1e-5), [rows, rows, [17]]), false),
      (random(Sum(over: .leading), [[301, 17]]), false),
      (random(Linear(), [[301, 65], [33, 65], [33]]), false),
      (random(LinearTransposed(), [[301, 65], [65, 33]]), false),
      (random(ContractLeading(), [[301, 65], [301, 33]]), false),
      (random(MatMul(transposesB: true), [[2, 301, 65], [2, 33, 65]]), false),
    ] + threadedExperts
  }()
}
