import TensorCore
import Testing
import Training

@Suite("Parameter blocks") struct OptimizerBlockTests {
  @Test("Entries start on 64 bytes, in order, and do not overlap")
  func layout() throws {
    let block = sampleBlock(seed: 1)
    #expect(block.entries.map(\.name) == sampleShapes.map(\.name))
    #expect(block.entries.map(\.range.count) == [21, 16, 1, 80, 0])
    #expect(block.layout.parameterCount == 118)
    #expect(block.layout.elementCount == 32 + 16 + 16 + 80)
    #expect(block.entries.allSatisfy { $0.range.lowerBound.isMultiple(of: 16) })
    for (left, right) in zip(block.entries, block.entries.dropFirst()) {
      #expect(left.range.upperBound <= right.range.lowerBound)
    }
    let address = try #require(UnsafeRawPointer(block.elements.baseAddress))
    #expect(Int(bitPattern: address).isMultiple(of: 64))
    #expect(hasCleanPadding(block))
  }

  @Test("Tensors go in and out unchanged")
  func roundTrip() throws {
    let block = sampleBlock(seed: 2)
    let copy = ParameterBlock(like: block)
    #expect(copy.elements.allSatisfy { $0 == 0 })
    for entry in block.entries {
      let tensor = block.tensor(of: entry)
      #expect(tensor.shape == entry.shape)
      copy.set(entry, tensor)
    }
    #expect(bits(copy) == bits(block))
    let other = ParameterBlock(like: block)
    other.copyElements(of: block)
    #expect(bits(other) == bits(block))
    other.clear()
    #expect(other.elements.allSatisfy { $0 == 0 })
  }

  @Test("Names find their entries")
  func names() throws {
    let block = sampleBlock(seed: 3)
    let bias = try #require(block.layout["bias"])
    #expect(bias.index == 1 && bias.range == 32..<48)
    let slice = try #require(block["bias"])
    slice[15] = 7
    #expect(block.elements[47] == 7)
    #expect(block["nothing"] == nil)
    #expect(ParameterBlock([]).elements.isEmpty)
  }
}
