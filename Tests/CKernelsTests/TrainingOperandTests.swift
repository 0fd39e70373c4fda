import CKernels
import Testing

@Suite struct TrainingOperandTests {
  @Test(arguments: KernelSet.supported) func transposedCopiesAreTransposed(set: KernelSet) {
    var random = Random(state: 1)
    for rows in [1, 2, 7, 8, 16, 17, 33] {
      for columns in [1, 3, 8, 15, 16, 31, 50] {
        let from = Matrix(rows, columns, in: -1...1, from: &random), to = Matrix(columns, rows)
        set.training.f32_transposed_copy(
          from.pointer, from.stride, rows, columns, to.pointer, to.stride)
        for row in 0..<columns {
          for column in 0..<to.stride {
            let wanted = column < rows ? from.memory[column * from.stride + row] : -777
            #expect(to.memory[row * to.stride + column] == wanted, "\(rows) x \(columns)")
          }
        }
      }
    }
  }

  @Test(arguments: KernelSet.supported) func pairsAreThoseOfARoundedMatrix(set: KernelSet) {
    var random = Random(state: 2)
    for inputs in [1, 2, 5, 16, 33] {
      for outputs in [1, 15, 16, 17, 40] {
        let matrix = Matrix(inputs, outputs, in: -2...2, from: &random)
        // Ties, the largest number, and what is none.
        let special = [0x3F80_8000, 0x3F81_8000, 0x7F7F_FFFF, 0x7F80_0001, 0xFF80_0000] as [UInt32]
        for (place, bits) in special.enumerated() where place < outputs {
          matrix.memory[place] = Float(bitPattern: bits)
        }
        var weights = [Float](repeating: 0, count: inputs * outputs)
        for k in 0..<inputs {
          for n in 0..<outputs {
            let x = matrix.memory[k * matrix.stride + n]
            let quiet = Float(bitPattern: x.bitPattern | 0x40_0000)
            weights[n * inputs + k] = x.isNaN ? quiet : roundedToBFloat16(x)
          }
        }
        let wanted = packedPairs(weights, outputs: outputs, inputs: inputs)
        let found = Memory<UInt16>(repeating: 0xABCD, count: wanted.count + 1)
        let panelCount = (outputs + 15) / 16
        for panel in 0..<panelCount {
          set.training.f32_pack_pairs(
            matrix.pointer, matrix.stride, inputs, outputs,
            clip_range(begin: panel, end: panel + 1),
            found.pointer)
        }
        #expect(found[wanted.count] == 0xABCD)
        #expect(found.elements == wanted + [0xABCD], "\(inputs) x \(outputs)")
      }
    }
  }
}
