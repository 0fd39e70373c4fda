import GraphIR

/// Chooses the bits of each weight from what they cost in bytes and in quality.
///
/// The losses of single weights are taken to add up, which holds while they are small.
///
/// - Source: CalibTIP: Hubara et al., "Accurate Post Training Quantization With Small Calibration
///   Sets", ICML 2021, arXiv:2006.10518, section 4.
package struct BitAllocation: Sendable {
  /// What is given, while the other is made as small as can be.
  package enum Limit: Codable, Sendable, Equatable {
    /// Bytes of all weights of the table.
    case bytes(Int)
    /// The sum of the losses.
    case loss(Double)
    /// The sum of what ``BitAllocation/price`` says.
    case price(Double)
  }

  /// The sensitivities.
  package let table: SensitivityTable
  /// What a choice takes of a limit that is not one of bytes or loss: milliseconds, say.
  package var price: @Sendable (SensitivityTable.Row, SensitivityTable.Choice) -> Double

  /// Prepares to choose from `table`.
  package init(
    _ table: SensitivityTable,
    price: @escaping @Sendable (SensitivityTable.Row, SensitivityTable.Choice) -> Double = {
      Double($1.byteCount)
    }
  ) {
    self.table = table
    self.price = price
  }

  /// The bits of each weight by its name, the best there are within `limit`.
  ///
  /// Under a limit of bytes or price the sum of the losses is the least possible; under a limit of
  /// loss the bytes are.
  ///
  /// - Throws: ``PassError`` when nothing is within `limit`.
  package func allocate(within limit: Limit) throws(PassError) -> [String: Int] {
    let (knapsack, budget) = program(limit)
    guard let solution = knapsack.solution(within: budget) else {
      throw unreachable(limit, knapsack.smallestSize)
    }
    return bits(solution.choices)
  }

  /// The bits that a greedy choice within `limit` gives, for comparison: from the most bits down,
  /// always the step that adds least to the loss, whatever it saves.
  ///
  /// - Throws: ``PassError`` when nothing is within `limit`.
  package func greedy(within limit: Limit) throws(PassError) -> [String: Int] {
    var places = table.rows.map { $0.choices.count - 1 }
    func isWithin() -> Bool {
      let chosen = zip(table.rows, places).map { ($0.0, $0.0.choices[$0.1]) }
      switch limit {
      case .bytes(let count): return chosen.reduce(0) { $0 + $1.1.byteCount } <= count
      case .price(let most): return chosen.reduce(0) { $0 + price($1.0, $1.1) } <= most
      case .loss(let most): return chosen.reduce(0) { $0 + $1.1.loss } <= most
      }
    }
    var last = isWithin() ? places : nil
    while true {
      // Under a limit of loss every step goes on saving bytes; otherwise the first that fits is it.
      if case .loss = limit {} else if last != nil { break }
      let steps = table.rows.indices.filter { places[$0] > 0 }
      let next = steps.min { left, right in
        (added(left, places[left]), left) < (added(right, places[right]), right)
      }
      guard let next else { break }
      places[next] -= 1
      guard isWithin() else {
        if case .loss = limit { break }
        continue
      }
      last = places
    }
    guard let last else { throw unreachable(limit, program(limit).knapsack.smallestSize) }
    return bits(last)
  }

  /// What the loss grows by when row `row` goes down from choice `place`.
  private func added(_ row: Int, _ place: Int) -> Double {
    let choices = table.rows[row].choices
    return choices[place - 1].loss - choices[place].loss
  }

  /// The same bits for all weights, for comparison; nil where a weight has no such choice.
  package func uniform(_ bitCount: Int) -> [String: Int]? {
    guard table.rows.allSatisfy({ $0.choices.contains { $0.bitCount == bitCount } }) else {
      return nil
    }
    return Dictionary(uniqueKeysWithValues: table.rows.map { ($0.weight, bitCount) })
  }

  private func program(_ limit: Limit) -> (knapsack: MultipleChoiceKnapsack, budget: Double) {
    func knapsack(
      _ choice: (SensitivityTable.Row, SensitivityTable.Choice) -> MultipleChoiceKnapsack.Choice
    ) -> MultipleChoiceKnapsack {
      MultipleChoiceKnapsack(table.rows.map { row in row.choices.map { choice(row, $0) } })
    }
    switch limit {
    case .bytes(let count):
      return (knapsack { .init(size: Double($1.byteCount), cost: $1.loss) }, Double(count))
    case .price(let most):
      return (knapsack { .init(size: price($0, $1), cost: $1.loss) }, most)
    case .loss(let most):
      return (knapsack { .init(size: $1.loss, cost: Double($1.byteCount)) }, most)
    }
  }

  private func bits(_ choices: [Int]) -> [String: Int] {
    Dictionary(
      uniqueKeysWithValues: zip(table.rows, choices).map { row, choice in
        (row.weight, row.choices[choice].bitCount)
      })
  }

  private func unreachable(_ limit: Limit, _ least: Double) -> PassError {
    switch limit {
    case .bytes(let count):
      .option(
        name: "target-bytes", expected: "at least \(Int(least)) for the weights", found: "\(count)")
    case .price(let most):
      .option(name: "target-ms", expected: "at least \(least) for the weights", found: "\(most)")
    case .loss(let most):
      .option(name: "max-drop", expected: "at least \(least)", found: "\(most)")
    }
  }
}
