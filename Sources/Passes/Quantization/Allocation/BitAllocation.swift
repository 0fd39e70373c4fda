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

  /// How bits are chosen.
  package enum Method: String, Codable, Sendable, CaseIterable {
    /// The integer program, solved exactly: ``MultipleChoiceKnapsack/solution(within:)``.
    case program
    /// By rate, for comparison: ``MultipleChoiceKnapsack/greedySolution(within:)``.
    case greedy
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

  /// The bits of each weight by its name within `limit`.
  ///
  /// Under a limit of bytes or price the sum of the losses is made small; under a limit of loss the
  /// bytes are. ``Method/program`` finds the least there is.
  ///
  /// - Throws: ``PassError`` when nothing is within `limit`.
  package func allocate(
    within limit: Limit, by method: Method = .program
  ) throws(PassError) -> [String: Int] {
    let (knapsack, budget) = program(limit)
    let solution =
      switch method {
      case .program: knapsack.solution(within: budget)
      case .greedy: knapsack.greedySolution(within: budget)
      }
    guard let solution else { throw unreachable(limit, knapsack.smallestSize) }
    return bits(solution.choices)
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
