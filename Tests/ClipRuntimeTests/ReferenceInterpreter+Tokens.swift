import Foundation
import ModelFormat
import RuntimeFixtures

extension ReferenceInterpreter {
  mutating func run(_ op: MergeTokens) {
    let rows = read(op.input)
    let sizes = op.sizes.map { read($0)[0] } ?? [Double](repeating: 1, count: rows.count)
    let metrics = read(op.key.buffer).map { row in
      let sums = (0..<op.headWidth).map { k in
        (0..<op.headCount).reduce(0) { $0 + row[op.key.column + $1 * op.headWidth + k] }
      }
      let norm = sums.reduce(0) { $0 + $1 * $1 }.squareRoot()
      return sums.map { norm > 0 ? $0 / norm : 0 }
    }
    let odd = stride(from: 1, to: rows.count, by: 2)
    var choices: [(score: Double, token: Int, partner: Int)] = []
    for token in stride(from: 2, to: rows.count, by: 2) {
      let scores = odd.map { other in
        zip(metrics[token], metrics[other]).reduce(0) { $0 + $1.0 * $1.1 }
      }
      let best = scores.indices.reduce(0) { scores[$1] > scores[$0] ? $1 : $0 }
      choices.append((scores[best], token, 2 * best + 1))
    }
    let count = rows.count - kept(op.output)
    let gone = choices.sorted { $0.score > $1.score }.prefix(count)
    var groups = stride(from: 0, to: rows.count, by: 2)
      .filter { even in !gone.contains { $0.token == even } }.map { [$0] }
    groups += odd.map { other in [other] + gone.filter { $0.partner == other }.map(\.token) }
    let totals = groups.map { $0.reduce(0) { $0 + sizes[$1] } }
    write(
      op.output,
      zip(groups, totals).map { group, total in
        rows[0].indices.map { k in group.reduce(0) { $0 + sizes[$1] * rows[$1][k] } / total }
      })
    write(op.outputSizes, [totals])
  }

  mutating func run(_ op: DropTokens) {
    let (rows, queries, keys) = (read(op.input), read(op.query.buffer), read(op.key.buffer))
    var scores = [Double](repeating: 0, count: rows.count)
    for head in 0..<op.headCount {
      let weights = keys.map { key in
        exp(
          Double(op.scoreScale)
            * (0..<op.headWidth).reduce(0) {
              let place = head * op.headWidth + $1
              return $0 + queries[0][op.query.column + place] * key[op.key.column + place]
            })
      }
      for token in rows.indices { scores[token] += weights[token] / weights.reduce(0, +) }
    }
    let grid = (op.leading..<rows.count).filter { token in
      guard op.columns > 0 else { return false }
      let (y, x) = ((token - op.leading) / op.columns, (token - op.leading) % op.columns)
      return y % op.spacing == op.spacing / 2 && x % op.spacing == op.spacing / 2
    }
    let certain = Array(0..<op.leading) + grid
    let others = rows.indices.filter { !certain.contains($0) }.sorted { scores[$0] > scores[$1] }
    let stay = certain + others.prefix(kept(op.output) - certain.count).sorted()
    write(op.output, stay.map { rows[$0] })
  }

  private func kept(_ buffer: Int) -> Int {
    if case .perItem(let rows) = program.buffers[buffer].rows { return rows }
    return 0
  }
}
