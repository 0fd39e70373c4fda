import GraphIR
import Testing
import Training

@Suite struct LossMixtureTests {
  /// All losses with weights that float32 holds exactly.
  private static let all =
    "affinity=1,contrastive=0.5,feature=2000,interactive=2,norm-direction=0.25,promptkd=1000"

  @Test func mixtureIsTheWeightedSum() throws {
    let mixture = try LossMixture(parsing: Self.all)
    #expect(mixture.terms.count == LossMixture.losses.count)
    var fixture = try LossFixture(seed: 10)
    let (total, terms) = try mixture.value(of: fixture.operands, &fixture.builder)
    let (values, gradients) = try fixture.run([total] + terms)
    #expect(values.count == 7)
    let expected = zip(mixture.terms, values.dropFirst()).reduce(0) { $0 + $1.0.weight * $1.1 }
    #expect(abs(values[0] - expected) < 1e-13 * expected)
    for (term, value) in zip(mixture.terms, values.dropFirst()) {
      var single = fixture
      let alone = try LossMixture(parsing: term.name).value(of: single.operands, &single.builder)
      #expect(abs(try single.run([alone.total]).values[0] - value) < 1e-14, "\(term.name)")
    }
    #expect(gradients.count == 3)
  }

  @Test func termsAreReadInOrder() throws {
    let mixture = try LossMixture(parsing: "feature=0.5,affinity")
    #expect(mixture.terms.map(\.name) == ["feature", "affinity"])
    #expect(mixture.terms.map(\.weight) == [0.5, 1])
    #expect(try LossMixture(parsing: mixture.description) == mixture)
    #expect(mixture.contains(AffinityLoss.self) && !mixture.contains(ContrastiveLoss.self))
    #expect(LossMixture.affinity == (try LossMixture(parsing: "affinity")))
  }

  @Test func onlyContrastiveNeedsNoTeacher() throws {
    for loss in LossMixture.losses {
      let name = type(of: loss).name
      let mixture = try LossMixture(parsing: name)
      #expect(mixture.needsTeacher == (name != ContrastiveLoss.name), "\(name)")
    }
    #expect(try LossMixture(parsing: "contrastive=2,feature").needsTeacher)
  }

  /// The part that is wrong, for texts that are no mixture.
  @Test(arguments: [
    ("", ""), ("affinity,", ""), ("afinity=1", "afinity=1"), ("Affinity", "Affinity"),
    ("affinity,affinity=2", "affinity=2"), ("affinity=0", "affinity=0"),
    ("affinity=-1", "affinity=-1"), ("affinity=nan", "affinity=nan"),
    ("feature,affinity=inf", "affinity=inf"), ("affinity=", "affinity="),
    ("affinity=1=2", "affinity=1=2"), ("affinity=one", "affinity=one"),
    (" affinity", " affinity"), ("affinity;feature", "affinity;feature"),
  ])
  func errorsNameThePartAndTheLosses(_ text: String, _ part: String) {
    let error = #expect(throws: LossMixtureError.self) { try LossMixture(parsing: text) }
    #expect(error?.found == part)
    for loss in LossMixture.losses {
      #expect(error?.description.contains(type(of: loss).name) == true)
    }
  }
}
