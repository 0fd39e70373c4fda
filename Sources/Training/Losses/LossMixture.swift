import GraphIR
import Operators

/// Losses with weights, such as `affinity=1,feature=0.5`.
package struct LossMixture: Sendable, Hashable, Codable, CustomStringConvertible {
  /// A loss by name and its weight.
  package struct Term: Sendable, Hashable, Codable {
    /// The loss's name.
    package let name: String
    /// What it is multiplied by; positive.
    package let weight: Double
  }

  /// The terms in the order they were given.
  package let terms: [Term]

  /// Affinity mimicking alone.
  package static let affinity = LossMixture(terms: [Term(name: AffinityLoss.name, weight: 1)])

  /// Every loss there is.
  package static let losses: [any DistillationLoss] = [
    AffinityLoss(), ContrastiveLoss(), FeatureLoss(), InteractiveLoss(), NormAndDirectionLoss(),
    ClassLogitsLoss(),
  ]

  private init(terms: [Term]) { self.terms = terms }

  /// Reads `NAME=WEIGHT,...`; a name alone has weight one.
  ///
  /// - Throws: ``LossMixtureError`` for an unknown or repeated name or a weight that is not positive.
  package init(parsing text: String) throws(LossMixtureError) {
    var terms: [Term] = []
    for part in text.split(separator: ",", omittingEmptySubsequences: false) {
      let pieces = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      let name = String(pieces[0])
      guard Self.losses.contains(where: { type(of: $0).name == name }),
        !terms.contains(where: { $0.name == name })
      else { throw LossMixtureError(found: String(part)) }
      let weight = pieces.count == 2 ? Double(String(pieces[1])) : 1
      guard let weight, weight > 0, weight.isFinite else {
        throw LossMixtureError(found: String(part))
      }
      terms.append(Term(name: name, weight: weight))
    }
    self.terms = terms
  }

  package var description: String {
    terms.map { "\($0.name)=\($0.weight)" }.joined(separator: ",")
  }

  /// Whether `loss` is among the terms.
  package func contains(_ loss: (some DistillationLoss).Type) -> Bool {
    terms.contains { $0.name == loss.name }
  }

  /// Whether a term compares with a teacher.
  package var needsTeacher: Bool {
    Self.losses.contains { loss in
      type(of: loss).needsTeacher && terms.contains { $0.name == type(of: loss).name }
    }
  }

  /// Adds every term and their weighted sum.
  package func value(
    of operands: LossOperands, _ builder: inout GraphBuilder
  ) throws(GraphError) -> (total: Value, terms: [Value]) {
    var total: Value?
    var values: [Value] = []
    for term in terms {
      guard let loss = Self.losses.first(where: { type(of: $0).name == term.name }) else {
        continue
      }
      let value = try loss.value(of: operands, &builder)
      values.append(value)
      let weighted = try builder.scaled(value, by: Float(term.weight))
      total = if let sum = total { try builder.sum(sum, weighted) } else { weighted }
    }
    guard let total else { throw .invariant(node: "loss", "has no terms") }
    return (total, values)
  }
}

/// A mixture of losses that cannot be read.
package struct LossMixtureError: Error, CustomStringConvertible {
  /// The part that is wrong.
  package let found: String

  package var description: String {
    let names = LossMixture.losses.map { type(of: $0).name }.joined(separator: ", ")
    return "a loss is NAME=WEIGHT with a positive weight, each name once, of \(names); "
      + "found '\(found)'"
  }
}
