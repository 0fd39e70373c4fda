/// Lends room for `count` elements at a multiple of 64 bytes, their contents undefined.
func withScratch<Element: BitwiseCopyable>(
  of type: Element.Type, _ count: Int, _ body: (UnsafeMutablePointer<Element>) -> Void
) {
  withUnsafeTemporaryAllocation(
    byteCount: max(count, 1) * MemoryLayout<Element>.stride, alignment: 64
  ) { scratch in
    if let start = scratch.bindMemory(to: type).baseAddress { body(start) }
  }
}
