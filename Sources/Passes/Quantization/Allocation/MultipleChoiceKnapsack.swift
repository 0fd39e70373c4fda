/// Picks one choice for each item so that the costs add up to the least within a budget of sizes.
///
/// Solved exactly: a Lagrangian multiplier from the convex hulls gives a lower bound and a first
/// solution; choices and partial sums that cannot beat it are dropped, and so are partial sums that
/// another one of no greater size and cost stands for. Sizes and costs are any real numbers: nothing
/// is rounded to a unit.
///
/// - Source: the integer program of Hubara et al., "Accurate Post Training Quantization With Small
///   Calibration Sets", ICML 2021, arXiv:2006.10518; Kellerer, Pferschy and Pisinger, "Knapsack
///   Problems", 2004, chapter 11, for the bounds and the lists of undominated states.
package struct MultipleChoiceKnapsack: Sendable {
  /// One choice of an item.
  package struct Choice: Hashable, Sendable {
    /// What it takes of the budget; not negative.
    package let size: Double
    /// What it costs.
    package let cost: Double

    /// A choice of `size` and `cost`.
    package init(size: Double, cost: Double) {
      self.size = size
      self.cost = cost
    }
  }

  /// What was picked.
  package struct Solution: Hashable, Sendable {
    /// For each item the index of its choice.
    package let choices: [Int]
    /// The sum of the sizes.
    package let size: Double
    /// The sum of the costs.
    package let cost: Double
    /// Whether no other solution costs less; false only where ``MultipleChoiceKnapsack/stateLimit``
    /// was reached.
    package let isOptimal: Bool
  }

  /// The choices of each item.
  package let items: [[Choice]]
  /// How many partial sums may be kept after an item; beyond that the best found so far is returned.
  package var stateLimit = 1 << 18

  /// Prepares to pick among `items`.
  ///
  /// - Precondition: every item has a choice, and all numbers are finite, sizes not negative.
  package init(_ items: [[Choice]]) {
    precondition(
      items.allSatisfy { item in
        !item.isEmpty && item.allSatisfy { $0.size >= 0 && $0.size.isFinite && $0.cost.isFinite }
      }, "choices of finite size and cost for every item")
    self.items = items
  }

  /// The least size that a solution can have.
  package var smallestSize: Double {
    items.reduce(0) { $0 + ($1.map(\.size).min() ?? 0) }
  }

  /// The solution of least cost whose sizes add up to `budget` at most; nil where there is none.
  package func solution(within budget: Double) -> Solution? {
    guard smallestSize <= budget else { return nil }
    guard !items.isEmpty else {
      return Solution(choices: [], size: 0, cost: 0, isOptimal: true)
    }
    let fronts = items.map { Front($0) }
    let relaxation = Relaxation(fronts, budget: budget)
    let search = StateSearch(fronts, relaxation, budget: budget, limit: stateLimit)
    let found = search.best()
    let choices = zip(fronts, found.places).map { $0.indices[$1] }
    return solution(choices, isOptimal: found.isOptimal)
  }

  /// The sums of `choices`, in the order of the items.
  package func solution(_ choices: [Int], isOptimal: Bool = false) -> Solution {
    var (size, cost) = (0.0, 0.0)
    for (item, choice) in zip(items, choices) {
      size += item[choice].size
      cost += item[choice].cost
    }
    return Solution(choices: choices, size: size, cost: cost, isOptimal: isOptimal)
  }

  /// The solution that begins with each item's smallest choice and takes, as long as one fits, the
  /// step to a larger choice that saves most cost for its size; nil where there is none.
  ///
  /// Until a step is passed over steps run along the convex hulls of the items: what has been taken
  /// up to there costs least for its size.
  package func greedySolution(within budget: Double) -> Solution? {
    guard smallestSize <= budget else { return nil }
    let fronts = items.map { Front($0) }
    var places = [Int](repeating: 0, count: items.count)
    var size = smallestSize
    while true {
      var best: (item: Int, to: Int, rate: Double)?
      for (item, front) in fronts.enumerated() {
        let now = front.choices[places[item]]
        for to in front.choices.indices.dropFirst(places[item] + 1) {
          let next = front.choices[to]
          guard size + next.size - now.size <= budget else { break }
          let rate = (now.cost - next.cost) / (next.size - now.size)
          if rate > best?.rate ?? -.infinity { best = (item, to, rate) }
        }
      }
      guard let best else { break }
      let choices = fronts[best.item].choices
      size += choices[best.to].size - choices[places[best.item]].size
      places[best.item] = best.to
    }
    return solution(zip(fronts, places).map { $0.indices[$1] })
  }
}

/// The choices of an item that no other of no greater size and cost stands for, sizes ascending and
/// costs descending.
struct Front {
  let choices: [MultipleChoiceKnapsack.Choice]
  /// Where they stand among all choices of the item.
  let indices: [Int]

  init(_ all: [MultipleChoiceKnapsack.Choice]) {
    let order = all.indices.sorted {
      (all[$0].size, all[$0].cost, $0) < (all[$1].size, all[$1].cost, $1)
    }
    var kept: [Int] = []
    for index in order {
      if let last = kept.last, all[index].cost >= all[last].cost { continue }
      kept.append(index)
    }
    indices = kept
    choices = kept.map { all[$0] }
  }

  /// The place of the choice of least `cost + price * size`, the smaller of equals.
  func best(price: Double) -> Int {
    choices.indices.min { left, right in
      let (a, b) = (value(left, price), value(right, price))
      return (a, left) < (b, right)
    } ?? 0
  }

  func value(_ place: Int, _ price: Double) -> Double {
    choices[place].cost + price * choices[place].size
  }
}

/// The linear relaxation of the program: a price of size, the bound that it gives, and a solution.
struct Relaxation {
  /// Cost for a unit of size at the optimum of the relaxation.
  let price: Double
  /// No solution costs less.
  let bound: Double
  /// Places of a solution that fits.
  let places: [Int]

  init(_ fronts: [Front], budget: Double) {
    // Steps along the convex hulls, the steepest first.
    var steps: [(rate: Double, item: Int, to: Int)] = []
    for (item, front) in fronts.enumerated() {
      var place = 0
      while place + 1 < front.choices.count {
        let from = front.choices[place]
        var (next, steepest) = (place + 1, -Double.infinity)
        for other in (place + 1)..<front.choices.count {
          let to = front.choices[other]
          let rate = (from.cost - to.cost) / (to.size - from.size)
          if rate >= steepest { (next, steepest) = (other, rate) }
        }
        steps.append((steepest, item, next))
        place = next
      }
    }
    steps.sort { ($1.rate, $0.item, $0.to) < ($0.rate, $1.item, $1.to) }
    var places = [Int](repeating: 0, count: fronts.count)
    var size = fronts.reduce(0) { $0 + $1.choices[0].size }
    var price = 0.0
    var isFull = false
    for step in steps {
      let front = fronts[step.item]
      let more = front.choices[step.to].size - front.choices[places[step.item]].size
      if size + more <= budget {
        // A later step of an item whose step did not fit is one from where the item stands.
        guard !isFull || step.to > places[step.item] else { continue }
        size += more
        places[step.item] = step.to
      } else if !isFull {
        isFull = true
        price = step.rate
      }
    }
    Self.improve(&places, &size, fronts, budget)
    self.price = price
    self.places = places
    bound =
      fronts.reduce(0) { $0 + $1.value($1.best(price: price), price) } - price * budget
  }

  /// Takes single steps that fit, and pairs of a step down and a step up that cost less.
  private static func improve(
    _ places: inout [Int], _ size: inout Double, _ fronts: [Front], _ budget: Double
  ) {
    for _ in 0..<(4 * fronts.count) {
      var best: (gain: Double, moves: [(item: Int, to: Int)]) = (0, [])
      for (item, front) in fronts.enumerated() {
        for to in front.choices.indices where to != places[item] {
          let (now, next) = (front.choices[places[item]], front.choices[to])
          let (more, gain) = (next.size - now.size, now.cost - next.cost)
          if more > 0, size + more <= budget, gain > best.gain { best = (gain, [(item, to)]) }
          guard more < 0 else { continue }
          for (other, otherFront) in fronts.enumerated() where other != item {
            let from = otherFront.choices[places[other]]
            for target in otherFront.choices.indices where target > places[other] {
              let choice = otherFront.choices[target]
              let sum = gain + from.cost - choice.cost
              guard sum > best.gain, size + more + choice.size - from.size <= budget else {
                continue
              }
              best = (sum, [(item, to), (other, target)])
            }
          }
        }
      }
      guard !best.moves.isEmpty else { return }
      for move in best.moves { places[move.item] = move.to }
      size = zip(fronts, places).reduce(0) { $0 + $1.0.choices[$1.1].size }
    }
  }
}
