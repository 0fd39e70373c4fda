import ModelFormat

/// What an instruction has to do for a batch, whatever does it.
struct NodeWork {
  /// Multiply-adds of its products.
  var multiplyAdds = 0.0
  /// What these are of.
  var arithmetic = Arithmetic.float
  /// Bytes of weights that it reads.
  var weightByteCount = 0

  /// What products are of.
  enum Arithmetic: String, CaseIterable {
    /// uint8 and int8.
    case integer
    case bfloat16
    case float
  }

  /// The work of an instruction of `program` for `batch` images, or texts of `tokens` tokens.
  init(
    _ instruction: Instruction, _ program: Program, _ reader: ModelReader, batch: Int, tokens: Int
  ) {
    func rows(_ buffer: Int) -> Double {
      switch program.buffers[buffer].rows {
      case .perItem(let count): Double(count * batch)
      case .perToken: Double(tokens * batch)
      case .perSlot(let count): Double(count * tokens * batch)
      }
    }
    func product(_ weight: Int, rows: Double, input: Int) {
      let tensor = reader.tensors[weight]
      let isSparse = tensor.layout == .sparse
      multiplyAdds += rows * Double(isSparse ? tensor.valueCount : tensor.rows * tensor.columns)
      weightByteCount += tensor.byteCount
      arithmetic =
        program.buffers[input].quantization != nil
        ? .integer : tensor.layout == .pairs ? .bfloat16 : .float
    }
    switch instruction {
    case .linear(let op): product(op.weight, rows: rows(op.input), input: op.input)
    case .expertLinear(let op):
      // Rows spread over the experts; how is not known before.
      let share = rows(op.output) / Double(max(op.experts.count, 1))
      for expert in op.experts { product(expert.weight, rows: share, input: op.input) }
    case .attention(let op):
      let keys = rows(op.key.buffer) / Double(batch)
      multiplyAdds = 2 * rows(op.query.buffer) * keys * Double(op.headCount * op.headWidth)
      if op.isCausal, rows(op.query.buffer) == rows(op.key.buffer) { multiplyAdds /= 2 }
      arithmetic = op.isInteger ? .integer : .float
    default: break
    }
  }

  /// The share of the time that the processor's arithmetic needs at least, of `seconds`.
  func arithmeticShare(_ seconds: Double, _ peak: MachinePeak) -> Double {
    multiplyAdds / peak.rate(arithmetic) / max(seconds, 1e-12)
  }

  /// The share of the time that reading the weights from memory needs at least, of `seconds`.
  func readShare(_ seconds: Double, _ peak: MachinePeak) -> Double {
    Double(weightByteCount) / peak.readRate / max(seconds, 1e-12)
  }
}
