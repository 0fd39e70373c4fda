import Foundation
import Testing
import Training

@Suite("Learning-rate schedules") struct ScheduleTests {
  private typealias Shape = LearningRateSchedule.Shape

  @Test("Warm-up grows in equal parts to the peak", arguments: LearningRateSchedule.Shape.allCases)
  func warmUp(_ shape: LearningRateSchedule.Shape) {
    let schedule = LearningRateSchedule(shape, peak: 0.5, warmUpSteps: 10)
    for step in 0..<10 {
      #expect(abs(schedule.rate(at: step, of: 40) - 0.05 * Double(step + 1)) < 1e-15)
    }
    #expect(schedule.rate(at: 9, of: 40) == 0.5)
    #expect(schedule.rate(at: 10, of: 40) == 0.5)
  }

  @Test("Known points after the warm-up")
  func points() {
    let constant = LearningRateSchedule(.constant, peak: 2, warmUpSteps: 4)
    let linear = LearningRateSchedule(.linear, peak: 2, warmUpSteps: 4)
    let cosine = LearningRateSchedule(.cosine, peak: 2, warmUpSteps: 4)
    #expect(constant.rate(at: 1_000, of: 12) == 2)
    #expect((4...12).map { linear.rate(at: $0, of: 12) } == (0...8).map { 2 - 0.25 * Double($0) })
    #expect(abs(cosine.rate(at: 8, of: 12) - 1) < 1e-15)
    #expect(abs(cosine.rate(at: 6, of: 12) - (1 + 0.5.squareRoot())) < 1e-15)
    #expect(cosine.rate(at: 12, of: 12) == 0)
    #expect(linear.rate(at: 90, of: 12) == 0 && cosine.rate(at: 90, of: 12) == 0)
  }

  @Test("After the peak rates fall, symmetrically about the middle", arguments: [0, 7, 100])
  func symmetry(_ warmUp: Int) {
    for shape in [Shape.linear, .cosine] {
      let schedule = LearningRateSchedule(shape, peak: 3e-4, warmUpSteps: warmUp)
      let total = warmUp + 60
      let rates = (warmUp...total).map { schedule.rate(at: $0, of: total) }
      #expect(zip(rates, rates.dropFirst()).allSatisfy { $0 > $1 })
      for (early, late) in zip(rates, rates.reversed()) {
        #expect(abs(early + late - 3e-4) < 1e-18)
      }
    }
  }

  @Test("A run that is all warm-up never leaves it")
  func shortRun() {
    let schedule = LearningRateSchedule(.cosine, peak: 1, warmUpSteps: 10)
    #expect((0..<5).map { schedule.rate(at: $0, of: 5) } == [0.1, 0.2, 0.3, 0.4, 0.5])
    #expect(LearningRateSchedule(.linear, peak: 1).rate(at: 0, of: 0) == 0)
  }

  @Test("Names and coding")
  func coding() throws {
    #expect(Shape.allCases.map(\.rawValue) == ["constant", "linear", "cosine"])
    let schedule = LearningRateSchedule(.cosine, peak: 1e-4, warmUpSteps: 200)
    let data = try JSONEncoder().encode(schedule)
    #expect(try JSONDecoder().decode(LearningRateSchedule.self, from: data) == schedule)
  }
}
