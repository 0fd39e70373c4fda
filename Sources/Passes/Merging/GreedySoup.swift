import GraphIR

/// A soup that takes models in one by one, best first, as long as accuracy does not fall.
///
/// By construction it is never worse than the best single model on the data that decide.
///
/// - Source: Wortsman et al., "Model soups", ICML 2022, arXiv:2203.05482.
package struct GreedySoup: Sendable {
  /// One model that was tried.
  package struct Step: Codable, Sendable {
    /// Its place among the models.
    package let model: Int
    /// Its own accuracy.
    package let alone: Double
    /// The accuracy of the soup with it.
    package let withIt: Double
    /// Whether it is in the soup.
    package let isTaken: Bool
  }

  /// The mean of the models that were taken.
  package let graph: Graph
  /// The accuracy of that mean.
  package let accuracy: Double
  /// The trials in their order.
  package let steps: [Step]

  /// Cooks a soup of `graphs`, of one architecture.
  ///
  /// Models of the same accuracy are tried in the order given.
  ///
  /// - Parameters:
  ///   - graphs: the models.
  ///   - report: takes each step as it is done.
  ///   - accuracy: measures a model on held-out data; what is not a number counts as the worst.
  /// - Throws: what `accuracy` throws, and ``PassError`` of the mean.
  package init(
    _ graphs: [Graph], report: (Step) -> Void = { _ in }, accuracy: (Graph) throws -> Double
  ) throws {
    precondition(!graphs.isEmpty, "no graph")
    func measured(_ graph: Graph) throws -> Double {
      let value = try accuracy(graph)
      return value.isNaN ? -.infinity : value
    }
    var alone: [Double] = []
    for graph in graphs { alone.append(try measured(graph)) }
    let order = graphs.indices.sorted { (-alone[$0], $0) < (-alone[$1], $1) }
    var taken: [Int] = []
    var soup = graphs[order[0]]
    var best = alone[order[0]]
    var steps: [Step] = []
    for model in order {
      var (candidate, found) = (soup, best)
      if !taken.isEmpty {
        candidate = try Merging.average((taken + [model]).map { graphs[$0] })
        found = try measured(candidate)
      }
      let step = Step(model: model, alone: alone[model], withIt: found, isTaken: found >= best)
      if step.isTaken {
        (soup, best) = (candidate, found)
        taken.append(model)
      }
      steps.append(step)
      report(step)
    }
    graph = soup
    self.accuracy = best
    self.steps = steps
  }
}
