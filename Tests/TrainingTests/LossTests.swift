import Glibc
import GraphIR
import Operators
import TensorCore
import Testing
import Training

/// Laws of the losses, in float64.
@Suite struct LossTests {
  private func run(
    _ loss: any DistillationLoss, _ fixture: LossFixture
  ) throws -> (value: Double, gradients: [[Double]]) {
    var fixture = fixture
    let value = try loss.value(of: fixture.operands, &fixture.builder)
    let (values, gradients) = try fixture.run([value])
    return (values[0], gradients)
  }

  /// The teacher's own embeddings are what every loss that compares with a teacher aims for.
  @Test(
    arguments: [AffinityLoss(), FeatureLoss(), ClassLogitsLoss(temperature: 2)]
      as [any DistillationLoss])
  func lossAndGradientVanishWhereStudentIsTeacher(_ loss: any DistillationLoss) throws {
    let (value, gradients) = try run(loss, LossFixture(isAlike: true, seed: 1))
    #expect(abs(value) < 1e-15)
    #expect(!gradients.isEmpty)
    #expect(gradients.joined().allSatisfy { abs($0) < 1e-14 })
    let other = try run(loss, LossFixture(seed: 1))
    #expect(other.value > 1e-3, "and only there")
    #expect(other.gradients.joined().contains { abs($0) > 1e-3 })
  }

  @Test func normAndDirectionVanishWhereBothAgree() throws {
    var fixture = try LossFixture(isAlike: true, seed: 2)
    fixture.inputs["directions"] = fixture.inputs["teacher.image"]
    let same = try run(NormAndDirectionLoss(), fixture)
    #expect(abs(same.value) < 1e-15)

    // Longer embeddings in the same direction are as good, shorter ones are not.
    let images = try #require(fixture.inputs["teacher.image"])
    for (factor, isLess) in [(3.0, false), (0.5, true)] {
      fixture.inputs["student.image"] = Tensor(
        shape: images.shape, images.doubles.map { $0 * factor })
      let (value, gradients) = try run(NormAndDirectionLoss(), fixture)
      #expect(abs(value - (isLess ? 0.5 : 0)) < 1e-14, "\(factor)")
      let largest = gradients[0].reduce(0) { max($0, abs($1)) }
      #expect(isLess ? largest > 1e-2 : largest < 1e-14, "\(factor): \(largest)")
    }
  }

  @Test func normAndDirectionIsItsFormula() throws {
    let fixture = try LossFixture(seed: 14)
    let directions = try fixture.unitRows("directions")
    func lengths(_ name: String) throws -> [(row: [Double], length: Double)] {
      let elements = try #require(fixture.inputs[name]).doubles
      return (0..<LossFixture.itemCount).map { item in
        let row = Array(elements[(item * 6)..<(item * 6 + 6)])
        return (row, row.reduce(0) { $0 + $1 * $1 }.squareRoot())
      }
    }
    let (students, teachers) = (try lengths("student.image"), try lengths("teacher.image"))
    #expect(zip(students, teachers).contains { $0.length > $1.length })
    #expect(zip(students, teachers).contains { $0.length < $1.length })
    var expected = 0.0
    for ((student, teacher), direction) in zip(zip(students, teachers), directions) {
      let along = zip(student.row, direction).reduce(0) { $0 + $1.0 * $1.1 }
      expected += (1 - along / max(student.length, teacher.length)) / Double(LossFixture.itemCount)
    }
    #expect(abs(try run(NormAndDirectionLoss(), fixture).value - expected) < 1e-13)
  }

  /// The spaces of student and teacher may have different widths.
  @Test(arguments: [3, 6, 9])
  func affinityIsTheMeanDivergence(studentWidth: Int) throws {
    typealias Loss = LossMathematics
    let fixture = try LossFixture(studentWidth: studentWidth, seed: 3)
    let (value, gradients) = try run(AffinityLoss(), fixture)
    let (image, text) = (
      try fixture.unitRows("student.image"), try fixture.unitRows("student.text")
    )
    let (wiseImage, wiseText) = (
      try fixture.unitRows("teacher.image"), try fixture.unitRows("teacher.text")
    )
    var expected = 0.0
    for (student, teacher) in [
      (Loss.logits(image, text, scale: 9), Loss.logits(wiseImage, wiseText, scale: 7)),
      (Loss.logits(text, image, scale: 9), Loss.logits(wiseText, wiseImage, scale: 7)),
    ] {
      for (row, wise) in zip(student, teacher) {
        expected += Loss.divergence(wise, row) / Double(2 * LossFixture.itemCount)
      }
    }
    #expect(abs(value - expected) < 1e-13 * max(1, expected))
    #expect(gradients.count == 3, "images, texts and the scale learn")
  }

  @Test func contrastiveIsTheMeanCrossEntropy() throws {
    typealias Loss = LossMathematics
    let fixture = try LossFixture(seed: 4)
    let (image, text) = (
      try fixture.unitRows("student.image"), try fixture.unitRows("student.text")
    )
    var expected = 0.0
    for logits in [Loss.logits(image, text, scale: 9), Loss.logits(text, image, scale: 9)] {
      for (index, row) in logits.enumerated() {
        let likelihood = Loss.probabilities(row)[index]
        expected -= log(likelihood) / Double(2 * LossFixture.itemCount)
      }
    }
    #expect(abs(try run(ContrastiveLoss(), fixture).value - expected) < 1e-13 * expected)
  }

  /// Which pair stands where in a batch does not matter.
  @Test(
    arguments: [ContrastiveLoss(), AffinityLoss(), InteractiveLoss()]
      as [any DistillationLoss])
  func orderOfPairsDoesNotMatter(_ loss: any DistillationLoss) throws {
    var fixture = try LossFixture(seed: 5)
    let plain = try run(loss, fixture)
    let order = [3, 0, 4, 1, 2]
    for name in ["student.image", "student.text", "teacher.image", "teacher.text"] {
      fixture.inputs[name] = try #require(fixture.inputs[name]).selecting(order, onAxis: 0)
    }
    let permuted = try run(loss, fixture)
    #expect(abs(plain.value - permuted.value) < 1e-14 * plain.value)
    for (index, gradient) in plain.gradients.prefix(2).enumerated() {
      let rows = Tensor(shape: [LossFixture.itemCount, 6], gradient)
      let expected = rows.selecting(order, onAxis: 0).doubles
      #expect(distance(permuted.gradients[index], expected) < 1e-14)
    }
    // Texts that belong to other images are another loss.
    fixture.inputs["student.text"] = try #require(fixture.inputs["student.text"])
      .selecting(order, onAxis: 0)
    #expect(abs(try run(loss, fixture).value - plain.value) > 1e-3)
  }

  @Test func interactiveIsContrastiveWhereStudentIsTeacher() throws {
    let fixture = try LossFixture(isAlike: true, seed: 6)
    let interactive = try run(InteractiveLoss(), fixture).value
    let contrastive = try run(ContrastiveLoss(), fixture).value
    #expect(abs(interactive - contrastive) < 1e-14 * contrastive)
    let other = try LossFixture(seed: 6)
    let difference = try run(InteractiveLoss(), other).value - run(ContrastiveLoss(), other).value
    #expect(abs(difference) > 1e-3)
  }

  @Test func featureIsTheMeanSquaredDistance() throws {
    let fixture = try LossFixture(seed: 7)
    var expected = 0.0
    for part in ["image", "text"] {
      let student = try fixture.unitRows("student." + part).joined()
      let teacher = try fixture.unitRows("teacher." + part).joined()
      let squares = zip(student, teacher).map { ($0 - $1) * ($0 - $1) }
      expected += squares.reduce(0, +) / Double(squares.count)
    }
    #expect(abs(try run(FeatureLoss(), fixture).value - expected) < 1e-14)
  }

  @Test(arguments: [1, 2, 4] as [Float])
  func classLogitsAreComparedAtATemperature(_ temperature: Float) throws {
    typealias Loss = LossMathematics
    let fixture = try LossFixture(seed: 8)
    let classes = try fixture.unitRows("classes")
    let heat = Double(temperature)
    let student = Loss.logits(try fixture.unitRows("student.image"), classes, scale: 9 / heat)
    let teacher = Loss.logits(try fixture.unitRows("teacher.image"), classes, scale: 7 / heat)
    let sum = zip(teacher, student).reduce(0) { $0 + Loss.divergence($1.0, $1.1) }
    let expected = heat * heat * sum / Double(LossFixture.itemCount * LossFixture.classCount)
    let value = try run(ClassLogitsLoss(temperature: temperature), fixture).value
    // One over the number of classes is a float32 factor.
    #expect(abs(value - expected) < 1e-7 * expected)
  }

  /// Only images and texts in a space of the teacher's width can be compared with the teacher's.
  @Test(
    arguments: [FeatureLoss(), InteractiveLoss(), NormAndDirectionLoss(), ClassLogitsLoss()]
      as [any DistillationLoss])
  func absentOperandsAreNamed(_ loss: any DistillationLoss) throws {
    let fixture = try LossFixture(studentWidth: 5, seed: 9)
    let error = #expect(throws: GraphError.self) { try self.run(loss, fixture) }
    #expect(error?.description.contains(type(of: loss).name) == true)
  }
}
