import CKernels
import ModelFormat

/// The choice of experts of a batch, item by item.
struct Routing {
  let frame: Frame
  let op: RouteTokens
  let experts: Int
  let slots: Int
  /// Whether the pooled token of an item is the only one that goes on.
  let isPooled: Bool
  /// Tokens that each expert was chosen by, then where its rows start.
  private let counts: UnsafeMutablePointer<UInt32>
  /// The choices of one token.
  private let chosen: UnsafeMutablePointer<UInt32>
  /// Of each token of an item, the logarithm of the sum of its logits' exponentials.
  private let shifts: UnsafeMutablePointer<Float>
  /// What an expert's choice of tokens goes by.
  private let scores: UnsafeMutablePointer<Float>

  /// Elements of scratch, of four bytes each; saturates.
  static func scratchCount(experts: Int, slots: Int, tokens: Int) -> Int {
    let (count, overflow) = tokens.multipliedReportingOverflow(by: 2)
    return overflow || count > Int.max / 2 ? Int.max : experts + slots + count
  }

  init(_ frame: Frame, _ op: RouteTokens) {
    self.frame = frame
    self.op = op
    experts = frame.buffers[op.logits].columns
    slots = frame.buffers[op.gates].columns
    isPooled = frame.buffers[op.places].rows != frame.buffers[op.logits].rows
    counts = frame.scratch.assumingMemoryBound(to: UInt32.self)
    chosen = counts + experts
    shifts = UnsafeMutableRawPointer(chosen + slots).assumingMemoryBound(to: Float.self)
    var most = 0
    for item in 0..<frame.items {
      most = max(
        most, frame.firstRow(op.logits, item: item + 1) - frame.firstRow(op.logits, item: item))
    }
    scores = shifts + most
  }

  /// Fills places with experts, gates, then puts the rows in order.
  func run() {
    for item in 0..<frame.items {
      let first = frame.firstRow(op.logits, item: item)
      let rows = first..<frame.firstRow(op.logits, item: item + 1)
      if op.topK > 0 { chooseExperts(item, rows) } else { chooseTokens(item, rows) }
    }
    putInOrder()
  }

  // MARK: Tokens choose

  private func chooseExperts(_ item: Int, _ rows: Range<Int>) {
    let isLimited = op.capacity > 0
    for expert in 0..<experts { counts[expert] = 0 }
    let pooled = rows.lowerBound + frame.pooledPositions[item]
    let seen = isPooled ? (isLimited ? rows.lowerBound : pooled)..<(pooled + 1) : rows
    for row in seen {
      let logits = frame.floatRow(op.logits, row)
      for slot in 0..<slots { chosen[slot] = best(logits, butFirst: slot) }
      let isKept = !isPooled || row == pooled
      let target = isPooled ? item : row
      for slot in 0..<slots {
        let expert = Int(chosen[slot])
        counts[expert] += 1
        guard isKept else { continue }
        let hasRoom = !isLimited || counts[expert] <= op.capacity
        frame.indexRow(op.places, target)[slot] = hasRoom ? chosen[slot] : Layout.absent
      }
      if isKept { weigh(logits, target) }
    }
  }

  /// The expert of the largest logit that is not among the first `count` choices.
  private func best(_ logits: UnsafePointer<Float>, butFirst count: Int) -> UInt32 {
    var best = -1
    candidates: for expert in 0..<experts {
      if best >= 0, !(logits[expert] > logits[best]) { continue }
      for earlier in 0..<count where chosen[earlier] == expert { continue candidates }
      best = expert
    }
    return UInt32(truncatingIfNeeded: max(best, 0))
  }

  // MARK: Experts choose

  private func chooseTokens(_ item: Int, _ rows: Range<Int>) {
    for row in rows {
      let logits = frame.floatRow(op.logits, row)
      var (largest, sum) = (logits[0], Float(0))
      for expert in 0..<experts { largest = max(largest, logits[expert]) }
      for expert in 0..<experts { sum += clip_exp(logits[expert] - largest) }
      shifts[row - rows.lowerBound] = largest + Self.logarithm(sum)
    }
    let pooled = frame.pooledPositions[item]
    let kept = isPooled ? pooled..<(pooled + 1) : 0..<rows.count
    for expert in 0..<experts {
      for token in 0..<rows.count {
        let score =
          frame.floatRow(op.logits, rows.lowerBound + token)[expert] - shifts[token]
        scores[token] = score.isNaN ? -.infinity : score
      }
      for token in kept {
        let isChosen = rank(token, of: rows.count) < op.capacity
        frame.indexRow(op.places, isPooled ? item : rows.lowerBound + token)[expert] =
          isChosen ? UInt32(truncatingIfNeeded: expert) : Layout.absent
      }
    }
    for token in kept {
      let target = isPooled ? item : rows.lowerBound + token
      for expert in 0..<experts { chosen[expert] = frame.indexRow(op.places, target)[expert] }
      weigh(frame.floatRow(op.logits, rows.lowerBound + token), target)
    }
  }

  /// Tokens whose scores are above that of `token`, or equal and earlier.
  private func rank(_ token: Int, of count: Int) -> Int {
    let score = scores[token]
    var rank = 0
    for other in 0..<token where scores[other] >= score { rank += 1 }
    for other in (token + 1)..<max(count, token + 1) where scores[other] > score { rank += 1 }
    return rank
  }

  /// The natural logarithm of a positive number.
  private static func logarithm(_ x: Float) -> Float {
    guard x.isFinite, x > 0 else { return x }
    let significand = Double(x.significand)
    let ratio = (significand - 1) / (significand + 1)
    var (sum, power) = (0.0, ratio)
    // The series of the inverse hyperbolic tangent, to 1e-17 for ratios up to a third.
    for term in 0..<16 {
      sum += power / Double(2 * term + 1)
      power *= ratio * ratio
    }
    return Float(2 * sum + Double(x.exponent) * 0.693147180559945309)
  }

  // MARK: Weights and order

  /// The gates of one token, whose choices are known, as row `target`.
  private func weigh(_ logits: UnsafePointer<Float>, _ target: Int) {
    let gates = frame.floatRow(op.gates, target)
    let places = frame.indexRow(op.places, target)
    var (largest, sum) = (-Float.infinity, Float(0))
    if op.isNormalized {
      for slot in 0..<slots where chosen[slot] != Layout.absent {
        largest = max(largest, logits[Int(chosen[slot])])
      }
      for slot in 0..<slots where chosen[slot] != Layout.absent {
        sum += clip_exp(logits[Int(chosen[slot])] - largest)
      }
    } else {
      for expert in 0..<experts { largest = max(largest, logits[expert]) }
      for expert in 0..<experts { sum += clip_exp(logits[expert] - largest) }
    }
    for slot in 0..<slots {
      let expert = places[slot]
      gates[slot] =
        expert == Layout.absent ? 0 : clip_exp(logits[Int(expert)] - largest) / sum
    }
  }

  /// Gives each slot that has an expert its row, and each row its token, expert and end.
  private func putInOrder() {
    let tokens = frame.rowCount(op.places)
    for expert in 0..<experts { counts[expert] = 0 }
    for token in 0..<tokens {
      let places = frame.indexRow(op.places, token)
      for slot in 0..<slots where places[slot] != Layout.absent { counts[Int(places[slot])] += 1 }
    }
    var start: UInt32 = 0
    for expert in 0..<experts {
      let count = counts[expert]
      // Where a run starts it says where it ends.
      if count > 0 { frame.indexRow(op.order, Int(start))[2] = start + count }
      counts[expert] = start
      start += count
    }
    for token in 0..<tokens {
      let places = frame.indexRow(op.places, token)
      for slot in 0..<slots where places[slot] != Layout.absent {
        let expert = Int(places[slot])
        let row = frame.indexRow(op.order, Int(counts[expert]))
        row[0] = UInt32(truncatingIfNeeded: token)
        row[1] = places[slot]
        places[slot] = counts[expert]
        counts[expert] += 1
      }
    }
    let rows = frame.rowCount(op.order)
    if Int(start) < rows { frame.indexRow(op.order, Int(start))[1] = Layout.absent }
  }
}

extension Frame {
  /// Chooses the experts of all tokens.
  func run(_ op: RouteTokens) { Routing(self, op).run() }
}
