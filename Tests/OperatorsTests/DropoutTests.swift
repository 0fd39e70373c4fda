import GraphIR
import Operators
import TensorCore
import TestSupport
import Testing

@Suite struct DropoutTests {
  private func draw(
    _ op: Dropout, count: Int, seed: Int32, threadCount: Int = 1
  ) throws -> [Float] {
    let x = Tensor(shape: [count], (0..<count).map { Float($0 + 1) })
    return try evaluate(
      OperatorCase(op: op, inputs: [x, Tensor(shape: [2], [seed, 5])]), as: Float.self,
      fast: threadCount > 1, threadCount: threadCount)
  }

  /// Dropped elements are as many as a binomial count allows, what stays makes up for them, and both
  /// differ from seed to seed and from salt to salt.
  @Test(arguments: [0.1, 0.5, 0.85]) func asManyAreDroppedAsAsked(_ probability: Double) throws {
    let count = 40_003
    let op = Dropout(probability: probability, salt: 3)
    #expect(abs(op.probability - probability) < 0x1p-16)
    let y = try draw(op, count: count, seed: 9)
    let dropped = y.count { $0 == 0 }
    let deviation = (Double(count) * probability * (1 - probability)).squareRoot()
    #expect(abs(Double(dropped) - Double(count) * probability) < 5 * deviation)
    let factor = Float(1 / (1 - op.probability))
    for (index, value) in y.enumerated() where value != 0 {
      #expect(value == Float(index + 1) * factor)
    }
    // Independent draws agree where both drop or both keep.
    let share = probability * probability + (1 - probability) * (1 - probability)
    let spread = (share * (1 - share) / Double(count)).squareRoot()
    for other in [
      try draw(op, count: count, seed: 10),
      try draw(Dropout(probability: probability, salt: 4), count: count, seed: 9),
    ] {
      let alike = zip(y, other).count { ($0 == 0) == ($1 == 0) }
      #expect(abs(Double(alike) / Double(count) - share) < 5 * spread)
    }
    // Neighbours are as independent.
    let pairs = zip(y, y.dropFirst()).count { ($0 == 0) == ($1 == 0) }
    #expect(abs(Double(pairs) / Double(count - 1) - share) < 5 * spread)
  }

  @Test func drawsDoNotDependOnThreads() throws {
    let op = Dropout(probability: 0.3, salt: 0)
    for count in [0, 1, 3, 4, 5, 20_001] {
      let one = try draw(op, count: count, seed: 1)
      for threads in [2, 3] {
        #expect(try draw(op, count: count, seed: 1, threadCount: threads) == one)
      }
    }
  }
}
