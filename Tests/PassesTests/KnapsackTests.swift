import Passes
import TensorCore
import Testing

@Suite struct KnapsackTests {
  private typealias Choice = MultipleChoiceKnapsack.Choice

  /// Items whose costs mostly fall with their sizes, some of them dominated.
  private func items(
    _ count: Int, choices: Int, whole: Bool, _ random: inout SplitMix64
  ) -> [[Choice]] {
    (0..<count).map { _ in
      let unit = 1 + 40 * random.nextUniform()
      let weight = Double.exp(6 * random.nextUniform())
      return (0..<choices).map { index in
        let size = unit * Double(index + 2) + random.nextUniform()
        let cost = weight * Double.exp(-Double(index)) * (0.5 + random.nextUniform())
        return Choice(size: whole ? size.rounded() : size, cost: cost)
      }
    }
  }

  /// The least cost within `budget`, by trying everything.
  private func exhaustive(_ items: [[Choice]], within budget: Double) -> Double? {
    var best: Double?
    func visit(_ item: Int, _ size: Double, _ cost: Double) {
      guard item < items.count else {
        if size <= budget { best = min(best ?? .infinity, cost) }
        return
      }
      for choice in items[item] { visit(item + 1, size + choice.size, cost + choice.cost) }
    }
    visit(0, 0, 0)
    return best
  }

  @Test(arguments: [true, false])
  func equalsExhaustiveSearch(_ whole: Bool) throws {
    var random = SplitMix64(seed: 5)
    for _ in 0..<40 {
      let items = items(6, choices: 5, whole: whole, &random)
      let knapsack = MultipleChoiceKnapsack(items)
      let largest = items.reduce(0) { $0 + ($1.map(\.size).max() ?? 0) }
      for share in [0.25, 0.4, 0.55, 0.7, 0.85, 1.0] {
        let budget = largest * share
        let solution = knapsack.solution(within: budget)
        let expected = exhaustive(items, within: budget)
        #expect((solution == nil) == (expected == nil))
        guard let solution, let expected else { continue }
        #expect(abs(solution.cost - expected) <= 1e-12 * expected)
        #expect(solution.size <= budget && solution.isOptimal)
        let size = zip(items, solution.choices).reduce(0) { $0 + $1.0[$1.1].size }
        #expect(size == solution.size)
      }
    }
  }

  @Test func equalItemsAndEqualNumbersAreNoTrouble() {
    let same = (0..<7).map { _ in
      [Choice(size: 3, cost: 5), Choice(size: 3, cost: 5), Choice(size: 4, cost: 2)]
    }
    let knapsack = MultipleChoiceKnapsack(same)
    for budget in 21...29 {
      let solution = knapsack.solution(within: Double(budget))
      #expect(solution?.cost == exhaustive(same, within: Double(budget)))
    }
    #expect(knapsack.solution(within: 20.999) == nil)
    #expect(MultipleChoiceKnapsack([]).solution(within: 0)?.cost == 0)
  }

  @Test func manyLayersAreSolvedToTheEndAndNoWorseThanGreedily() throws {
    var random = SplitMix64(seed: 9)
    let items = items(148, choices: 6, whole: true, &random)
    let knapsack = MultipleChoiceKnapsack(items)
    let largest = items.reduce(0) { $0 + ($1.map(\.size).max() ?? 0) }
    var last = Double.infinity
    var gains = 0
    for share in stride(from: 0.4, through: 1, by: 0.05) {
      let solution = try #require(knapsack.solution(within: largest * share))
      let greedy = try #require(knapsack.greedySolution(within: largest * share))
      #expect(solution.isOptimal && solution.size <= largest * share)
      #expect(greedy.size <= largest * share)
      #expect(solution.cost <= last && solution.cost <= greedy.cost * (1 + 1e-12))
      if solution.cost < greedy.cost * (1 - 1e-6) { gains += 1 }
      last = solution.cost
    }
    #expect(gains > 3)
  }

  @Test func greedyStepsRunAlongTheHulls() throws {
    // A step that saves almost nothing stands before one that saves much.
    let knapsack = MultipleChoiceKnapsack([
      [Choice(size: 1, cost: 10), Choice(size: 2, cost: 9.9), Choice(size: 3, cost: 0)],
      [Choice(size: 1, cost: 10), Choice(size: 3, cost: 8)],
    ])
    #expect(knapsack.greedySolution(within: 4)?.choices == [2, 0])
    #expect(knapsack.greedySolution(within: 3.5)?.choices == [1, 0])
    #expect(knapsack.greedySolution(within: 1.5) == nil)
    var random = SplitMix64(seed: 13)
    let items = items(30, choices: 6, whole: false, &random)
    let many = MultipleChoiceKnapsack(items)
    for exponent in -6...4 {
      // What costs least under a price of size is the best of its size.
      let price = Double.exp(Double(exponent))
      let best = items.map { item in
        item.min { $0.cost + price * $0.size < $1.cost + price * $1.size } ?? item[0]
      }
      let (size, cost) = best.reduce((0.0, 0.0)) { ($0.0 + $1.size, $0.1 + $1.cost) }
      let greedy = try #require(many.greedySolution(within: size * (1 + 1e-12)))
      #expect(abs(greedy.cost - cost) <= 1e-9 * cost)
    }
  }

  @Test func aLimitOfStatesGivesWhatIsKnown() throws {
    var random = SplitMix64(seed: 11)
    let items = items(60, choices: 6, whole: false, &random)
    var knapsack = MultipleChoiceKnapsack(items)
    let budget = items.reduce(0) { $0 + ($1.map(\.size).max() ?? 0) } * 0.6
    let whole = try #require(knapsack.solution(within: budget))
    knapsack.stateLimit = 1
    let cut = try #require(knapsack.solution(within: budget))
    #expect(!cut.isOptimal && cut.size <= budget && cut.cost >= whole.cost)
  }
}
