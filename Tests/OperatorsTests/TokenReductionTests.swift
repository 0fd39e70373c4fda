import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

/// Laws of the operators that shorten sequences.
@Suite struct TokenReductionTests {
  private let headWidth = 4

  private func attention() -> Attention {
    Attention(headWidth: headWidth, scale: 0.5, isCausal: false)
  }

  @Test func mergingNothingOnlyReorders() throws {
    let merge = OperatorCase.random(
      TokenMerge(count: 0, headWidth: headWidth), [[2, 5, 3], [2, 5, 8]])
    for fast in [false, true] {
      let results = try evaluateAll(merge, as: Float.self, fast: fast)
      let x = merge.inputs[0].elements(of: Float.self)
      let order = [0, 2, 4, 1, 3]
      var wanted: [Float] = []
      for item in 0..<2 {
        for token in order {
          let start = (item * 5 + token) * 3
          wanted += x[start..<(start + 3)]
        }
      }
      #expect(results[0] == wanted && results[1] == [Float](repeating: 1, count: 10))
    }
  }

  /// Hand-made keys: token 2 points as token 3 does, token 4 nearly as token 1.
  @Test func theBestMatchesMergeBySize() throws {
    let keys = Tensor(
      shape: [1, 5, 2], [9, 9, 1, 0, 0, 2, 0, 1, 1, 0.5] as [Float])
    let x = Tensor(shape: [1, 5, 1], [100, 1, 2, 3, 4] as [Float])
    let sizes = Tensor(shape: [1, 5], [1, 1, 3, 1, 2] as [Float])
    func merge(_ count: Int) throws -> [[Double]] {
      try evaluateAll(
        OperatorCase(op: TokenMerge(count: count, headWidth: 2), inputs: [x, keys, sizes]),
        as: Double.self)
    }
    #expect(try merge(1) == [[100, 4, 1, 2.25], [1, 2, 1, 4]])
    let both = try merge(2)
    #expect(zip(both[0], [100, 3, 2.25]).allSatisfy { abs($0 - $1) < 1e-12 })
    #expect(both[1] == [1, 3, 4])
  }

  @Test func theClassTokenNeverGoes() throws {
    // Its keys are those of every other token, so nothing is more similar.
    let keys = Tensor(shape: [1, 7, 2], [Float](repeating: 1, count: 14))
    let x = Tensor(shape: [1, 7, 1], (0..<7).map { Float($0) })
    let results = try evaluateAll(
      OperatorCase(op: TokenMerge(count: 3, headWidth: 2), inputs: [x, keys]), as: Double.self)
    #expect(results[0] == [0, (1.0 + 2 + 4 + 6) / 4, 3, 5] && results[1] == [1, 4, 1, 1])
  }

  /// Two equal keys and values side by side, or one of size two: what attends to them sees the same.
  @Test func twoEqualTokensAreOneOfSizeTwo() throws {
    var random = SplitMix64(seed: 11)
    let tokens = 6
    var rows = (0..<3).map { _ in random.normals(tokens * 8) }
    for index in rows.indices { rows[index].replaceSubrange(32..<40, with: rows[index][24..<32]) }
    let whole = try evaluateAll(
      OperatorCase(op: attention(), inputs: rows.map { Tensor(shape: [1, tokens, 8], $0) }),
      as: Double.self)[0]
    let merged = rows.map { row in
      Tensor(shape: [1, 5, 8], Array(row[..<32]) + Array(row[40...]))
    }
    let sizes = Tensor(shape: [1, 5], [1, 1, 1, 2, 1] as [Float])
    let found = try evaluateAll(
      OperatorCase(op: ProportionalAttention(attention()), inputs: merged + [sizes]),
      as: Double.self)[0]
    let wanted = Array(whole[..<32]) + Array(whole[40...])
    #expect(zip(found, wanted).allSatisfy { abs($0 - $1) < 1e-14 })
  }

  @Test func sizesOfOneAreAttention() throws {
    let plain = OperatorCase.random(attention(), [[2, 5, 8], [2, 5, 8], [2, 5, 8]])
    let ones = Tensor(shape: [2, 5], [Float](repeating: 1, count: 10))
    let sized = OperatorCase(
      op: ProportionalAttention(attention()), inputs: plain.inputs + [ones])
    #expect(
      try evaluate(plain, as: Float.self, fast: true)
        == evaluate(sized, as: Float.self, fast: true))
  }

  @Test func itemsDoNotTouchEachOther() throws {
    let both = OperatorCase.random(
      TokenMerge(count: 3, headWidth: headWidth), [[2, 9, 5], [2, 9, 8]])
    let results = try evaluateAll(both, as: Float.self, fast: true, threadCount: 2)
    for item in 0..<2 {
      let alone = OperatorCase(
        op: both.op,
        inputs: both.inputs.map { tensor in
          let size = tensor.count / 2
          let slice = tensor.elements(of: Float.self)[(item * size)..<((item + 1) * size)]
          return Tensor(shape: [1] + tensor.shape.dropFirst(), Array(slice))
        })
      for (whole, part) in zip(results, try evaluateAll(alone, as: Float.self, fast: true)) {
        #expect(Array(whole[(item * part.count)..<((item + 1) * part.count)]) == part)
      }
    }
  }

  /// The class token looks along the first axis; tokens 2, 5 and 6 lie there.
  @Test func whatIsSeenStays() throws {
    let queries = Tensor(shape: [1, 7, 1], [1, 0, 0, 0, 0, 0, 0] as [Float])
    let keys = Tensor(shape: [1, 7, 1], [0, 0, 3, 0, 1, 2, 4] as [Float])
    let x = Tensor(shape: [1, 7, 1], (0..<7).map { Float($0) })
    func kept(_ count: Int, _ grid: TokenGrid) throws -> [Double] {
      let op = TokenDrop(count: count, grid: grid, headWidth: 1, scale: 1)
      return try evaluate(OperatorCase(op: op, inputs: [x, queries, keys]), as: Double.self)
    }
    #expect(try kept(4, TokenGrid(leading: 1)) == [0, 2, 5, 6])
    // A grid of three columns: token 5 stands in the middle of row 1.
    #expect(try kept(3, TokenGrid(leading: 1, columns: 3, spacing: 2)) == [0, 5, 6])
    #expect(try kept(4, TokenGrid(leading: 2)) == [0, 1, 2, 6])
    #expect(try kept(7, TokenGrid(leading: 1)) == [0, 1, 2, 3, 4, 5, 6])
  }

  @Test func impossibleCountsAreRefused() throws {
    let x = TensorType(.float32, shape: [1, 5, 3])
    let keys = TensorType(.float32, shape: [1, 5, 8])
    func merge(_ count: Int, _ headWidth: Int = 4) throws -> [TensorType] {
      try TokenMerge(count: count, headWidth: headWidth).outputTypes(for: [x, keys])
    }
    #expect(try merge(2)[0].extents == [1, 3, 3])
    #expect(throws: GraphError.self) { try merge(3) }
    #expect(throws: GraphError.self) { try merge(1, 3) }
    func drop(_ count: Int, _ grid: TokenGrid) throws -> [TensorType] {
      try TokenDrop(count: count, grid: grid, headWidth: 4, scale: 1).outputTypes(
        for: [x, keys, keys])
    }
    #expect(throws: GraphError.self) { try drop(6, TokenGrid(leading: 1)) }
    #expect(throws: GraphError.self) { try drop(2, TokenGrid(leading: 3)) }
    #expect(throws: GraphError.self) { try drop(2, TokenGrid(leading: 1, columns: 2)) }
    #expect(throws: GraphError.self) {
      try ProportionalAttention(attention()).outputTypes(
        for: [keys, keys, keys, TensorType(.float32, shape: [1, 4])])
    }
  }
}
