import CKernels
import Testing

/// One item's tokens, in memory where rows are wider than all heads together.
private struct Tokens {
  let count: Int, heads: Int, width: Int
  let key: Memory<Float>
  let sizes: Memory<Float>

  var stride: Int { heads * width + 3 }

  init(_ count: Int, heads: Int, width: Int) {
    var random = Random(state: UInt64(count * 100 + width))
    self.count = count
    self.heads = heads
    self.width = width
    key = Memory(random.floats(count * (heads * width + 3)))
    sizes = Memory((0..<count).map { Float(1 + $0 * 3 % 5) })
  }

  /// Cosines of two tokens' sums over heads, in double precision.
  func cosine(_ a: Int, _ b: Int) -> Double {
    func metric(_ token: Int) -> [Double] {
      (0..<width).map { k in
        (0..<heads).reduce(0) { $0 + Double(key[token * stride + $1 * width + k]) }
      }
    }
    let (x, y) = (metric(a), metric(b))
    func product(_ a: [Double], _ b: [Double]) -> Double {
      zip(a, b).reduce(0) { $0 + $1.0 * $1.1 }
    }
    return product(x, y) / (product(x, x) * product(y, y)).squareRoot()
  }

  /// The tokens that go and the odd tokens they go to, by the definition.
  func wantedMatches(_ mergeCount: Int) -> [Int: Int] {
    var choices: [(score: Double, token: Int, partner: Int)] = []
    for token in Swift.stride(from: 2, to: count, by: 2) {
      var best = (score: -Double.infinity, token: token, partner: -1)
      for odd in Swift.stride(from: 1, to: count, by: 2) where cosine(token, odd) > best.score {
        best = (cosine(token, odd), token, odd)
      }
      choices.append(best)
    }
    choices.sort { $0.score > $1.score }
    return Dictionary(
      uniqueKeysWithValues: choices.prefix(mergeCount).map { ($0.token, $0.partner) })
  }
}

/// Memory of a plan with a word behind each part that must not change.
private struct Plan {
  let sources: Memory<Int32>, merged: Memory<Int32>, rows: Memory<Int32>
  let shares: Memory<Float>

  init(kept: Int, merged mergeCount: Int) {
    sources = Memory(repeating: -7, count: kept + 1)
    merged = Memory(repeating: -7, count: mergeCount + 1)
    rows = Memory(repeating: -7, count: mergeCount + 1)
    shares = Memory(repeating: -7, count: mergeCount + 1)
  }

  var form: clip_token_plan {
    clip_token_plan(
      sources: sources.pointer, merged: merged.pointer, rows: rows.pointer, shares: shares.pointer)
  }

  func checkEnds() {
    #expect(sources.elements.last == -7 && merged.elements.last == -7)
    #expect(rows.elements.last == -7 && shares.elements.last == -7)
  }
}

@Suite struct TokenTests {
  private func match(
    _ tokens: Tokens, _ mergeCount: Int, sized: Bool, _ set: KernelSet
  ) -> (plan: Plan, sizes: [Float]) {
    let kept = tokens.count - mergeCount
    let plan = Plan(kept: kept, merged: mergeCount)
    let sizes = Memory<Float>(repeating: -7, count: kept + 1)
    let count = clip_f32_match_tokens_scratch_count(tokens.count, tokens.width)
    let scratch = Memory<Float>(repeating: .nan, count: count + 1)
    scratch[count] = -777
    var arguments = clip_f32_match_tokens_arguments(
      key: tokens.key.pointer, key_stride: tokens.stride, token_count: tokens.count,
      head_count: tokens.heads, head_width: tokens.width, merge_count: mergeCount,
      sizes: sized ? UnsafePointer(tokens.sizes.pointer) : nil, merged_sizes: sizes.pointer,
      plan: plan.form)
    set.kernels.f32_match_tokens(&arguments, scratch.pointer)
    #expect(scratch[count] == -777 && sizes[kept] == -7)
    plan.checkEnds()
    return (plan, Array(sizes.elements.dropLast()))
  }

  @Test(arguments: KernelSet.supported) func matchesTheMostSimilar(set: KernelSet) {
    for (count, heads, width) in [(2, 1, 3), (3, 2, 5), (17, 3, 16), (50, 12, 64), (65, 2, 40)] {
      let tokens = Tokens(count, heads: heads, width: width)
      for mergeCount in Set([0, 1, count / 4, (count - 1) / 2]) where mergeCount <= (count - 1) / 2
      {
        let wanted = tokens.wantedMatches(mergeCount)
        let (plan, sizes) = match(tokens, mergeCount, sized: true, set)
        let goers = plan.merged.elements.dropLast().map(Int.init)
        #expect(goers == wanted.keys.sorted())
        let order =
          stride(from: 0, to: count, by: 2).filter { wanted[$0] == nil }
          + Array(stride(from: 1, to: count, by: 2))
        #expect(plan.sources.elements.dropLast().map(Int.init) == order)
        var wantedSizes = order.map { tokens.sizes[$0] }
        for (index, token) in goers.enumerated() {
          let row = Int(plan.rows[index])
          #expect(order[row] == wanted[token])
          wantedSizes[row] += tokens.sizes[token]
          #expect(plan.shares[index] == tokens.sizes[token] / wantedSizes[row])
        }
        #expect(sizes == wantedSizes)
      }
    }
  }

  /// Whatever the keys are, a plan stays within its bounds.
  @Test(arguments: KernelSet.supported) func strangeKeysMakeAPlan(set: KernelSet) {
    for value in [0, .nan, .infinity, .greatestFiniteMagnitude] as [Float] {
      let tokens = Tokens(20, heads: 2, width: 8)
      for index in 0..<tokens.key.count where index % 3 != 1 { tokens.key[index] = value }
      let (plan, sizes) = match(tokens, 9, sized: false, set)
      #expect(plan.merged.elements.dropLast() == [2, 4, 6, 8, 10, 12, 14, 16, 18])
      #expect(plan.rows.elements.dropLast().allSatisfy { (1..<11).contains($0) })
      #expect(sizes.reduce(0, +) == 20)
    }
  }

  @Test(arguments: KernelSet.supported) func rowsAreMeansBySize(set: KernelSet) {
    let tokens = Tokens(33, heads: 1, width: 9)
    let (plan, sizes) = match(tokens, 12, sized: true, set)
    let width = 37
    var random = Random(state: 5)
    let input = Memory(random.floats(33 * 40))
    let output = Memory<Float>(repeating: -777, count: 21 * 41)
    var arguments = clip_f32_merge_rows_arguments(
      input: input.pointer, input_stride: 40, plan: plan.form, kept_count: 21, merge_count: 12,
      output: output.pointer, output_stride: 41)
    set.kernels.f32_merge_rows(&arguments, clip_range(begin: 0, end: 16))
    set.kernels.f32_merge_rows(&arguments, clip_range(begin: 16, end: width))
    for row in 0..<21 {
      var members = [Int(plan.sources[row])]
      for merge in 0..<12 where Int(plan.rows[merge]) == row {
        members.append(Int(plan.merged[merge]))
      }
      for column in 0..<41 {
        let found = output[row * 41 + column]
        guard column < width else {
          #expect(found == -777)
          continue
        }
        let sum = members.reduce(0.0) {
          $0 + Double(tokens.sizes[$1]) * Double(input[$1 * 40 + column])
        }
        #expect(abs(Double(found) - sum / Double(sizes[row])) < 1e-6)
        if members.count == 1 { #expect(found == input[members[0] * 40 + column]) }
      }
    }
  }

  @Test(arguments: KernelSet.supported) func keepsWhatTheFirstTokenSees(set: KernelSet) {
    for (columns, spacing, leading) in [(0, 1, 1), (7, 3, 1), (4, 2, 3), (0, 1, 9)] {
      let (count, heads, width) = (50, 3, 20)
      let tokens = Tokens(count, heads: heads, width: width)
      var random = Random(state: 3)
      let query = Memory(random.floats(heads * width, in: -2...2))
      let sources = Memory<Int32>(repeating: -7, count: 31)
      let scratch = Memory<Float>(
        repeating: .nan, count: clip_f32_select_tokens_scratch_count(count))
      var arguments = clip_f32_select_tokens_arguments(
        query: query.pointer, key: tokens.key.pointer, key_stride: tokens.stride,
        token_count: count, head_count: heads, head_width: width, scale: 0.5, kept_count: 30,
        leading: leading, columns: columns, spacing: spacing, sources: sources.pointer)
      set.kernels.f32_select_tokens(&arguments, scratch.pointer)
      let isOnGrid = (0..<count).map { token in
        guard columns > 0, token >= leading else { return false }
        let (y, x) = ((token - leading) / columns, (token - leading) % columns)
        return y % spacing == spacing / 2 && x % spacing == spacing / 2
      }
      let scores = attention(tokens, query, scale: 0.5)
      let certain = Array(0..<leading) + (0..<count).filter { isOnGrid[$0] }
      let others = (leading..<count).filter { !isOnGrid[$0] }.sorted { scores[$0] > scores[$1] }
      let wanted = certain + others.prefix(30 - certain.count).sorted()
      #expect(sources.elements.dropLast().map(Int.init) == wanted)
      #expect(sources[30] == -7)
    }
  }

  /// The mean over heads of the query's attention to each token, in double precision.
  private func attention(
    _ tokens: Tokens, _ query: Memory<Float>, scale: Double
  ) -> [Double] {
    var means = [Double](repeating: 0, count: tokens.count)
    for head in 0..<tokens.heads {
      let weights = (0..<tokens.count).map { token in
        let product = (0..<tokens.width).reduce(0.0) {
          let place = head * tokens.width + $1
          return $0 + Double(query[place]) * Double(tokens.key[token * tokens.stride + place])
        }
        return exponential(product * scale)
      }
      let sum = weights.reduce(0, +)
      for token in 0..<tokens.count { means[token] += weights[token] / sum }
    }
    return means
  }

  /// e^x by its series, for the small arguments here.
  private func exponential(_ x: Double) -> Double {
    var (sum, term) = (1.0, 1.0)
    for n in 1..<60 {
      term *= x / Double(n)
      sum += term
    }
    return sum
  }

  @Test func hugeScratchSaturates() {
    #expect(clip_f32_match_tokens_scratch_count(.max, 64) == .max)
    #expect(clip_f32_match_tokens_scratch_count(1 << 62, 1 << 30) == .max)
    #expect(clip_f32_select_tokens_scratch_count(.max) == .max)
  }
}
