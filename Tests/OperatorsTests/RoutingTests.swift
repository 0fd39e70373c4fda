import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// Which experts tokens go to, and with what weight.
@Suite struct RoutingTests {
  private func route(_ op: RouteTokens, _ logits: Tensor) throws -> [Int] {
    try evaluate(OperatorCase(op: op, inputs: [logits]), as: Float.self).map { Int($0) }
  }

  private func gates(
    _ logits: Tensor, _ codes: [Int32], isNormalized: Bool
  ) throws -> [Double] {
    let slots = codes.count / logits.shape.dropLast().reduce(1, *)
    let assignment = Tensor(shape: logits.shape.dropLast() + [slots], codes)
    return try evaluate(
      OperatorCase(op: ExpertGates(isNormalized: isNormalized), inputs: [logits, assignment]),
      as: Double.self)
  }

  @Test func largestLogitsComeFirst() throws {
    var random = SplitMix64(seed: 3)
    let logits = random.normalTensor([4, 5, 7])
    let elements = logits.elements(of: Float.self)
    for topK in 1...7 {
      let expected = (0..<20).flatMap { token in
        (0..<7).sorted { elements[token * 7 + $0] > elements[token * 7 + $1] }.prefix(topK)
      }
      #expect(try route(RouteTokens(topK: topK), logits) == expected)
    }
  }

  @Test func tiesGoToTheLowerExpert() throws {
    let equal = Tensor(shape: [1, 4], [2, 2, 2, 2] as [Float])
    #expect(try route(RouteTokens(topK: 3), equal) == [0, 1, 2])
    let some = Tensor(shape: [2, 4], [1, 3, 0, 3, 5, 1, 1, -2] as [Float])
    #expect(try route(RouteTokens(topK: 2), some) == [1, 3, 0, 1])
  }

  @Test func notANumberStillNamesExperts() throws {
    let logits = Tensor(shape: [1, 3], [Float](repeating: .nan, count: 3))
    #expect(try route(RouteTokens(topK: 2), logits) == [0, 1])
    let wide = Tensor(shape: [1, 2, 2], [.nan, 1, 0, .nan] as [Float])
    let codes = try route(RouteTokens(expertChoiceOf: 1), wide)
    #expect(codes.allSatisfy { (-1...1).contains($0) })
  }

  @Test func firstTokensFillAnExpert() throws {
    // Every token wants expert 1 first and expert 0 next; the samples do not compete.
    let logits = Tensor(shape: [2, 3, 3], (0..<6).flatMap { _ in [1, 2, 0] as [Float] })
    #expect(
      try route(RouteTokens(topK: 2, capacity: 2), logits)
        == [1, 0, 1, 0, -3, -2, 1, 0, 1, 0, -3, -2])
    #expect(try route(RouteTokens(topK: 1, capacity: 1), logits) == [1, -3, -3, 1, -3, -3])
  }

  @Test func roomForAllIsNoCapacity() throws {
    var random = SplitMix64(seed: 5)
    let logits = random.normalTensor([3, 9, 4])
    let free = try route(RouteTokens(topK: 2), logits)
    #expect(try route(RouteTokens(topK: 2, capacity: 9), logits) == free)
    #expect(try route(RouteTokens(topK: 2, capacity: 3), logits) != free)
  }

  @Test func capacityHolds() throws {
    var random = SplitMix64(seed: 6)
    let logits = random.normalTensor([3, 20, 4])
    let free = try route(RouteTokens(topK: 2), logits)
    let limited = try route(RouteTokens(topK: 2, capacity: 7), logits)
    for item in 0..<3 {
      var counts = [Int](repeating: 0, count: 4)
      for slot in (item * 40)..<((item + 1) * 40) {
        let expected = counts[free[slot]] < 7 ? free[slot] : -(free[slot] + 2)
        counts[free[slot]] += 1
        #expect(limited[slot] == expected)
      }
    }
  }

  /// A causal text's routing must not depend on what follows.
  @Test func laterTokensDoNotMatter() throws {
    var random = SplitMix64(seed: 7)
    let elements = random.normals(2 * 12 * 3)
    for capacity in [0, 1, 3] {
      let op = RouteTokens(topK: 2, capacity: capacity)
      let before = try route(op, Tensor(shape: [2, 12, 3], elements))
      for kept in [1, 5, 11] {
        var changed = elements
        for item in 0..<2 {
          for index in (kept * 3)..<(12 * 3) {
            changed[item * 36 + index] = Float(random.nextNormal())
          }
        }
        let after = try route(op, Tensor(shape: [2, 12, 3], changed))
        for item in 0..<2 {
          let slots = (item * 24)..<(item * 24 + kept * 2)
          #expect(Array(before[slots]) == Array(after[slots]))
        }
      }
    }
  }

  @Test func expertsTakeTheirMostProbableTokens() throws {
    var random = SplitMix64(seed: 8)
    let logits = random.normalTensor([2, 11, 3])
    let p = try evaluate(OperatorCase(op: Softmax(), inputs: [logits]), as: Double.self)
    for capacity in [1, 4, 11, 20] {
      let codes = try route(RouteTokens(expertChoiceOf: capacity), logits)
      for item in 0..<2 {
        for expert in 0..<3 {
          let order = (0..<11).sorted {
            p[(item * 11 + $0) * 3 + expert] > p[(item * 11 + $1) * 3 + expert]
          }
          let taken = Set(order.prefix(capacity))
          for token in 0..<11 {
            #expect(
              codes[(item * 11 + token) * 3 + expert] == (taken.contains(token) ? expert : -1))
          }
        }
      }
    }
    let equal = Tensor(shape: [1, 3, 2], [Float](repeating: 0.25, count: 6))
    #expect(try route(RouteTokens(expertChoiceOf: 2), equal) == [0, 1, 0, 1, -1, -1])
  }

  @Test func weightsAreSharesOfWhatWasChosen() throws {
    let logits = Tensor(shape: [1, 3], [1, 3, 2] as [Float])
    let e = [1.0, 3, 2].map { Double.exp($0) }
    let both = try gates(logits, [1, 2], isNormalized: true)
    #expect(distance(both, [e[1] / (e[1] + e[2]), e[2] / (e[1] + e[2])]) < 1e-15)
    let full = try gates(logits, [1, SlotCode.full(2)], isNormalized: true)
    #expect(distance(full, [e[1] / (e[1] + e[2]), 0]) < 1e-15, "what is full counts as chosen")
    let plain = try gates(logits, [1, SlotCode.full(2)], isNormalized: false)
    #expect(distance(plain, [e[1] / (e[0] + e[1] + e[2]), 0]) < 1e-15)
  }

  @Test func weightsAreFinite() throws {
    let logits = Tensor(shape: [2, 2], [1e4, -1e4, 88, 89] as [Float])
    for isNormalized in [false, true] {
      #expect(try gates(logits, [0, 1, -1, -1], isNormalized: isNormalized) == [1, 0, 0, 0])
    }
  }

  @Test func masksTellWhatWasChosen() throws {
    let assignment = Tensor(shape: [2, 2], [1, SlotCode.full(0), SlotCode.none, 2] as [Int32])
    func mask(_ op: any Op) throws -> [Float] {
      try evaluate(OperatorCase(op: op, inputs: [assignment]), as: Float.self)
    }
    #expect(try mask(SlotMask()) == [1, 0, 0, 1])
    #expect(try mask(ExpertMask(experts: 3)) == [1, 1, 0, 0, 0, 1])
  }

  @Test func textsEndWithTheirEnd() throws {
    let ids = Tensor(shape: [2, 4], [7, 9, 9, 0, 5, 6, 7, 8] as [Int32])
    func mask(_ rule: EndTokenRule) throws -> [Float] {
      try evaluate(OperatorCase(op: TextMask(rule: rule), inputs: [ids]), as: Float.self)
    }
    #expect(try mask(.largest) == [1, 1, 0, 0, 1, 1, 1, 1])
    #expect(try mask(.first(7)) == [1, 0, 0, 0, 1, 1, 1, 0])
  }

  private func distance(_ left: [Double], _ right: [Double]) -> Double {
    left.count == right.count
      ? zip(left, right).reduce(0) { max($0, abs($1.0 - $1.1)) } : .infinity
  }
}
