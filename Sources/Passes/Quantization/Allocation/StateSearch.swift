/// The lists of undominated partial sums of a ``MultipleChoiceKnapsack``, item by item.
struct StateSearch {
  /// A choice of places for the items so far.
  private struct State {
    let size: Double
    let cost: Double
    /// The state before the last item, and the place of that item.
    let parent: Int32
    let place: Int16
  }

  private let fronts: [Front]
  private let relaxation: Relaxation
  private let budget: Double
  private let limit: Int
  /// Items in the order of the search: those whose wrong choice is dearest first.
  private let order: [Int]
  /// The cost of the solution that is to be beaten, with what sums of costs are rounded by.
  private let target: Double

  init(_ fronts: [Front], _ relaxation: Relaxation, budget: Double, limit: Int) {
    self.fronts = fronts
    self.relaxation = relaxation
    self.budget = budget
    self.limit = limit
    let known = zip(fronts, relaxation.places).reduce(0) { $0 + $1.0.choices[$1.1].cost }
    let magnitude = fronts.reduce(0) { sum, front in
      sum + (front.choices.map { abs($0.cost) }.max() ?? 0)
    }
    target = known + 1e-12 * magnitude
    let price = relaxation.price
    let spread = fronts.map { front -> Double in
      let least = front.value(front.best(price: price), price)
      return front.choices.indices.map { front.value($0, price) - least }.filter { $0 > 0 }.min()
        ?? .infinity
    }
    order = fronts.indices.sorted { (spread[$1], $0) < (spread[$0], $1) }
  }

  /// The places of the best solution.
  func best() -> (places: [Int], isOptimal: Bool) {
    let price = relaxation.price
    var leastLeft = fronts.reduce(0) { $0 + $1.value($1.best(price: price), price) }
    var sizeLeft = fronts.reduce(0) { $0 + $1.choices[0].size }
    var levels: [[State]] = [[State(size: 0, cost: 0, parent: -1, place: 0)]]
    for item in order {
      let front = fronts[item]
      leastLeft -= front.value(front.best(price: price), price)
      sizeLeft -= front.choices[0].size
      let previous = levels[levels.count - 1]
      var next: [State] = []
      for (place, choice) in front.choices.enumerated() {
        var grown: [State] = []
        grown.reserveCapacity(previous.count)
        for (parent, state) in previous.enumerated() {
          let (size, cost) = (state.size + choice.size, state.cost + choice.cost)
          guard size + sizeLeft <= budget * (1 + 1e-15) else { break }
          // What is left costs at least what the price says.
          guard cost + leastLeft + price * (size - budget) <= target else { continue }
          grown.append(State(size: size, cost: cost, parent: Int32(parent), place: Int16(place)))
        }
        next = Self.merged(next, grown)
      }
      guard !next.isEmpty, next.count <= limit else { return (relaxation.places, next.isEmpty) }
      levels.append(next)
    }
    return (backtracked(levels), true)
  }

  /// Two lists with sizes ascending and costs descending as one such list.
  private static func merged(_ left: [State], _ right: [State]) -> [State] {
    guard !left.isEmpty else { return right }
    var result: [State] = []
    result.reserveCapacity(left.count + right.count)
    var (i, j) = (0, 0)
    var lowest = Double.infinity
    while i < left.count || j < right.count {
      let takesLeft =
        j == right.count
        || i < left.count && (left[i].size, left[i].cost) <= (right[j].size, right[j].cost)
      let state = takesLeft ? left[i] : right[j]
      if takesLeft { i += 1 } else { j += 1 }
      guard state.cost < lowest else { continue }
      lowest = state.cost
      result.append(state)
    }
    return result
  }

  private func backtracked(_ levels: [[State]]) -> [Int] {
    var places = relaxation.places
    guard let last = levels.last,
      let cheapest = last.indices.min(by: { last[$0].cost < last[$1].cost })
    else { return places }
    let known = zip(fronts, places).reduce(0) { $0 + $1.0.choices[$1.1].cost }
    guard last[cheapest].cost < known else { return places }
    var index = cheapest
    for (level, item) in order.enumerated().reversed() {
      let state = levels[level + 1][index]
      places[item] = Int(state.place)
      index = Int(state.parent)
    }
    return places
  }
}
