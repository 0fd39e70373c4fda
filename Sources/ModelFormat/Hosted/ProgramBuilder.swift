/// Builds a program step by step and plans its memory.
public struct ProgramBuilder: Sendable {
  private var buffers: [Buffer] = []
  private var instructions: [Instruction] = []
  private let poolingRule: PoolingRule
  private let endToken: Int

  /// The names given to the instructions, in order.
  public private(set) var names: [String] = []

  /// Starts an empty program; an image program has the rule ``PoolingRule/firstRow``.
  public init(poolingRule: PoolingRule = .firstRow, endToken: Int = 0) {
    self.poolingRule = poolingRule
    self.endToken = poolingRule == .endToken ? endToken : 0
  }

  /// Adds a value and returns its index; without quantization it is float32.
  public mutating func buffer(
    _ rows: RowRule, columns: Int, quantization: BufferQuantization? = nil, isIndices: Bool = false
  ) -> Int {
    buffers.append(
      Buffer(rows: rows, columns: columns, quantization: quantization, isIndices: isIndices))
    return buffers.count - 1
  }

  /// Adds a step, which must write a value that no step before wrote.
  public mutating func append(_ instruction: Instruction, name: String) {
    instructions.append(instruction)
    names.append(name)
  }

  /// The program with a slot for each buffer.
  ///
  /// Buffers take, in order of execution, the smallest free slot that is large enough, otherwise
  /// the largest free one; texts count as 64 tokens.
  public func build() -> Program {
    var lastRead = [Int](repeating: -1, count: buffers.count)
    for (index, instruction) in instructions.enumerated() {
      for output in instruction.outputs { lastRead[output] = max(index, lastRead[output]) }
      for input in instruction.inputs { lastRead[input] = index }
    }
    if let last = instructions.last { lastRead[last.output] = instructions.count }
    var planned = buffers
    var slots: [(occupant: Int, size: Int)] = []
    for (index, instruction) in instructions.enumerated() {
      let inPlace = instruction.inputs.first {
        instruction.mayReplace($0) && lastRead[$0] == index
          && buffers[instruction.output].hasSameType(as: buffers[$0])
      }
      if let inPlace {
        planned[instruction.output].slot = planned[inPlace].slot
        slots[planned[inPlace].slot].occupant = instruction.output
        continue
      }
      for output in instruction.outputs {
        let size = nominalByteCount(buffers[output])
        let free = slots.indices.filter { lastRead[slots[$0].occupant] < index }
        let fitting = free.filter { slots[$0].size >= size }.min { slots[$0].size < slots[$1].size }
        if let slot = fitting ?? free.max(by: { slots[$0].size < slots[$1].size }) {
          planned[output].slot = slot
          slots[slot] = (output, max(size, slots[slot].size))
        } else {
          planned[output].slot = slots.count
          slots.append((output, size))
        }
      }
    }
    return Program(
      buffers: planned, slotCount: max(1, slots.count), instructions: instructions,
      poolingRule: poolingRule, endToken: endToken)
  }

  private func nominalByteCount(_ buffer: Buffer) -> Int {
    switch buffer.rows {
    case .perItem(let rows): rows * buffer.rowByteCount
    case .perToken: 64 * buffer.rowByteCount
    case .perSlot(let rows): 64 * rows * buffer.rowByteCount
    }
  }
}
