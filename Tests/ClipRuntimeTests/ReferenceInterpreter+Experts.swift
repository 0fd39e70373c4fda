import Foundation
import ModelFormat

extension ReferenceInterpreter {
  mutating func run(_ op: RouteTokens) {
    let logits = read(op.logits)
    let experts = logits[0].count
    // The experts of each token by slot, full ones too, and whether these have room.
    var choices: [[(expert: Int, hasRoom: Bool)?]] = []
    if op.topK > 0 {
      var taken = [Int](repeating: 0, count: experts)
      choices = logits.map { row in
        let order = (0..<experts).sorted { (row[$0], $1) > (row[$1], $0) }
        return order.prefix(op.topK).map { expert in
          taken[expert] += 1
          return (expert, op.capacity == 0 || taken[expert] <= op.capacity)
        }
      }
    } else {
      choices = logits.map { row in row.map { _ in nil } }
      let shares = logits.map { row in
        row.map { exp($0) / row.reduce(0) { $0 + exp($1) } }
      }
      for expert in 0..<experts {
        let order = shares.indices.sorted {
          (shares[$0][expert], $1) > (shares[$1][expert], $0)
        }
        for token in order.prefix(op.capacity) { choices[token][expert] = (expert, true) }
      }
    }
    var tokens = Array(choices.indices)
    if program.buffers[op.places].rows != program.buffers[op.logits].rows {
      tokens = [pooledPosition]
    }
    var order: [(token: Int, expert: Int, slot: Int)] = []
    values[op.gates] = tokens.enumerated().map { index, token in
      let row = choices[token]
      let chosen = row.compactMap { $0?.expert }
      let all = (op.isNormalized ? chosen : Array(0..<experts)).reduce(0) {
        $0 + exp(logits[token][$1])
      }
      return row.enumerated().map { slot, choice in
        guard let choice, choice.hasRoom else { return 0 }
        order.append((index, choice.expert, slot))
        return exp(logits[token][choice.expert]) / all
      }
    }
    order.sort { ($0.expert, $0.token, $0.slot) < ($1.expert, $1.token, $1.slot) }
    values[op.order] = order.map { [Double($0.token), Double($0.expert)] }
    var places = tokens.map { token in choices[token].map { _ in -1.0 } }
    for (row, entry) in order.enumerated() { places[entry.token][entry.slot] = Double(row) }
    values[op.places] = places
  }

  mutating func run(_ op: ExpertLinear) {
    let weights = op.experts.map { self.weights($0) }
    let input = read(op.input)
    let scales = op.rowScale.map { read($0) }
    let rows = read(op.order).enumerated().map { row, entry in
      let (source, expert) = (op.isOrdered ? row : Int(entry[0]), Int(entry[1]))
      return product(
        input[source], of: op.input, by: op.experts[expert], weights[expert],
        rowScale: scales?[source][0], op.activation)
    }
    write(op.output, rows)
  }

  mutating func run(_ op: CombineExperts) {
    let rows = read(op.input)
    let columns = program.buffers[op.output].columns
    let residual = op.residual.map { read($0) }
    let sums = zip(read(op.places), read(op.gates)).enumerated().map { token, slots in
      (0..<columns).map { column in
        zip(slots.0, slots.1).reduce(residual?[token][column] ?? 0) {
          $1.0 < 0 ? $0 : $0 + $1.1 * rows[Int($1.0)][column]
        }
      }
    }
    write(op.output, sums)
  }
}
